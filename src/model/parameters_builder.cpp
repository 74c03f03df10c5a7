// How the table comes from a config and its plan.
#include <algorithm>

#include "base/parts.h"
#include "model/parameters.h"
#include "model/plan.h"

namespace llama_tp {

namespace {

// Padding of a rank's vocabulary rows: whole 32-byte pieces of bf16, as matrix units like them.
constexpr int64_t vocabulary_multiple = 16;
VocabularySlice slice_vocabulary(int64_t vocabulary, bool split, int64_t rank, int64_t size, bool sequence_parallel) {
  if (!split) return {false, round_up(vocabulary, vocabulary_multiple), 0, vocabulary, sequence_parallel};
  const int64_t rows = round_up(ceil_div(vocabulary, size), vocabulary_multiple);
  const int64_t begin = std::min(rank * rows, vocabulary);
  return {true, rows, begin, std::min(rows, vocabulary - begin), sequence_parallel};
}

}  // namespace

// Walks the family's modules once; the stored tensors are made block by block in the order in which they are used.
class ParametersBuilder {
 public:
  ParametersBuilder(const ModelConfig& config, int64_t rank, int64_t size, bool sequence_parallel, Parameters& out)
      : config_(config), rank_(rank), size_(size), sequence_parallel_(sequence_parallel), out_(out) {}

  void build() {
    const auto vocabulary = [this](bool split) {
      return slice_vocabulary(config_.vocabulary, split, rank_, size_, sequence_parallel_);
    };
    out_.embedding_slice_ = vocabulary(config_.plan.embedding);
    out_.head_slice_ = vocabulary(config_.plan.head);
    for (size_t layer = 0; layer < config_.plan.layers.size(); layer++)
      out_.layouts_.push_back(layout_of(config_.plan.layers[layer], layer));
    out_.embedding_ = weight("embedding", 0, {out_.embedding_slice_.rows, config_.hidden}, true);
    for (int64_t layer = 0; layer < config_.layers; layer++) out_.blocks_.push_back(block(layer));
    const int64_t head_unit = config_.layers + 1;
    out_.final_norm_ = norm("final_norm");
    out_.head_ =
        config_.tied ? out_.embedding_ : weight("head", head_unit, {out_.head_slice_.rows, config_.hidden}, true);
    fill_units();
    for (size_t m = 0; m < config_.family->modules.size(); m++) add_module(m);
  }

 private:
  LayerLayout layout_of(const TensorParallelPlan::Layer& layer, size_t number) const {
    const int64_t attention_ranks = layer.attention ? size_ : 1, mlp_ranks = layer.mlp ? size_ : 1;
    const int64_t replicas = std::max<int64_t>(1, attention_ranks / config_.kv_heads);
    return {.attention_split = layer.attention,
            .mlp_split = layer.mlp,
            .heads = config_.heads / attention_ranks,
            .kv_heads = config_.kv_heads * replicas / attention_ranks,
            .ffn = config_.ffn / mlp_ranks,
            .kv_replicas = replicas,
            .sequence_parallel = sequence_parallel_,
            .rotary = config_.rotary_layers[number],
            .window = config_.windows[number]};
  }

  Weight* weight(const std::string& name, int64_t unit, const Shape& shape, bool decays) {
    out_.weights_.push_back({name, unit, shape, decays, 0, {}, {}});
    return &out_.weights_.back();
  }

  int64_t norm_unit() const { return config_.layers + (config_.tied ? 1 : 2); }
  void fill_units() {
    out_.units_.resize(static_cast<size_t>(norm_unit() + 1));
    for (Weight& weight : out_.weights_) {
      Unit& unit = out_.units_[static_cast<size_t>(weight.unit)];
      weight.offset = unit.elements;
      unit.weights.push_back(&weight);
      unit.elements += round_up(weight.shape.elements(), alignment_elements);
    }
  }

  Norm norm(const std::string& name) {
    return {weight(name + ".weight", norm_unit(), {config_.hidden}, false),
            config_.norm_bias ? weight(name + ".bias", norm_unit(), {config_.hidden}, false) : nullptr};
  }

  Linear linear(const std::string& name, int64_t unit, int64_t out, int64_t in, bool bias) {
    return {weight(name + ".weight", unit, {out, in}, true),
            bias ? weight(name + ".bias", unit, {out}, false) : nullptr};
  }

  BlockWeights block(int64_t layer) {
    const LayerLayout& layout = out_.layout(layer);
    const std::string prefix = "block." + std::to_string(layer) + ".";
    const int64_t unit = 1 + layer, q = layout.heads * config_.head_dim, kv = layout.kv_heads * config_.head_dim;
    BlockWeights block;
    block.attention_norm = norm(prefix + "attention_norm");
    block.qkv = linear(prefix + "qkv", unit, q + 2 * kv, config_.hidden, config_.qkv_bias);
    if (config_.qk_norm) {
      block.q_norm = {weight(prefix + "q_norm.weight", unit, {config_.head_dim}, false), nullptr};
      block.k_norm = {weight(prefix + "k_norm.weight", unit, {config_.head_dim}, false), nullptr};
    }
    block.o = linear(prefix + "o", unit, config_.hidden, q, config_.o_bias);
    block.mlp_norm = norm(prefix + "mlp_norm");
    block.gate_up = linear(prefix + "gate_up", unit, (config_.activation.gated ? 2 : 1) * layout.ffn, config_.hidden,
                           config_.mlp_bias);
    block.down = linear(prefix + "down", unit, config_.hidden, layout.ffn, config_.mlp_bias);
    return block;
  }

  void add_module(size_t m) {
    const Module& module = config_.family->modules[m];
    if (module.parts.front() == Part::head && config_.tied) return;
    const int64_t times = in_block(module) ? config_.layers : 1;
    for (int64_t layer = 0; layer < times; layer++) {
      const std::string name = name_in_layer(module, layer),
                        &style = config_.plan.styles[m][static_cast<size_t>(layer)];
      int64_t file_rows = 0, row = 0;
      for (const Part part : module.parts) file_rows += rows_of(part);
      for (const Part part : module.parts) {
        add_part(part, layer, name, style, file_rows, row);
        row += rows_of(part);
      }
    }
  }

  int64_t rows_of(Part part) const { return rows_of_part(config_, part); }

  // Where a part lies: the stored tensors and its first row in them.
  struct Place {
    Weight *weight, *bias;
    int64_t weight_row;
  };
  Place place_of(Part part, int64_t layer) {
    if (part == Part::embedding) return {out_.embedding_, nullptr, 0};
    if (part == Part::head) return {out_.head_, nullptr, 0};
    if (part == Part::final_norm) return {out_.final_norm_.weight, out_.final_norm_.bias, 0};
    BlockWeights& block = out_.block(layer);
    const LayerLayout& layout = out_.layout(layer);
    const int64_t q = layout.heads * config_.head_dim, kv = layout.kv_heads * config_.head_dim;
    switch (part) {
      case Part::attention_norm:
        return {block.attention_norm.weight, block.attention_norm.bias, 0};
      case Part::q:
        return {block.qkv.weight, block.qkv.bias, 0};
      case Part::k:
        return {block.qkv.weight, block.qkv.bias, q};
      case Part::v:
        return {block.qkv.weight, block.qkv.bias, q + kv};
      case Part::o:
        return {block.o.weight, block.o.bias, 0};
      case Part::q_norm:
        return {block.q_norm.weight, nullptr, 0};
      case Part::k_norm:
        return {block.k_norm.weight, nullptr, 0};
      case Part::mlp_norm:
        return {block.mlp_norm.weight, block.mlp_norm.bias, 0};
      case Part::gate:
        return {block.gate_up.weight, block.gate_up.bias, 0};
      case Part::up:
        return {block.gate_up.weight, block.gate_up.bias, config_.activation.gated ? layout.ffn : 0};
      case Part::down:
        return {block.down.weight, block.down.bias, 0};
      default:
        fail("family ", config_.family->name, ": ", name_of(part), " has no place in a block");
    }
  }

  void add_part(Part part, int64_t layer, const std::string& module, const std::string& style, int64_t file_rows,
                int64_t file_row) {
    const Place place = place_of(part, layer);
    const int64_t rows = rows_of(part);
    Parameter base;
    base.style = style;
    base.file_row = file_row;
    base.weight_row = place.weight_row;
    if (is_norm(part)) {
      add_norm(base, part, layer, module, place);
      return;
    }
    const bool input_split = part == Part::o || part == Part::down;
    Parameter weight = base;
    weight.name = module + ".weight";
    if (part == Part::embedding && config_.tied) weight.tied_name = head_name();
    weight.weight = place.weight;
    weight.file_shape = {file_rows, columns_of_part(config_, part)};
    weight.shape = {rows, columns_of_part(config_, part)};
    slice(weight, part, layer, input_split ? 1 : 0);
    out_.rows_.push_back(weight);
    if (place.bias == nullptr) return;
    Parameter bias = base;
    bias.name = module + ".bias";
    bias.weight = place.bias;
    bias.file_shape = {file_rows};
    bias.shape = {rows};
    bias.initial = Initial::zeros;
    slice(bias, part, layer, input_split ? -1 : 0);
    out_.rows_.push_back(bias);
  }

  std::string head_name() const {
    for (const Module& module : config_.family->modules)
      if (module.parts.front() == Part::head) return module.name + ".weight";
    return "";
  }

  // A rank's gradient of a norm is that of the tokens that it normed; of a head's norm, that of its heads.
  void add_norm(Parameter row, Part part, int64_t layer, const std::string& module, const Place& place) {
    const bool of_heads = part == Part::q_norm || part == Part::k_norm;
    const bool partial = of_heads ? out_.layout(layer).attention_split : sequence_parallel_;
    row.file_shape = row.shape = {rows_of(part)};
    row.count = row.stride = rows_of(part);
    row.counts_in_norm = rank_ == 0;
    row.summed_over = partial ? GradientSum::tensor_parallel : GradientSum::none;
    row.name = module + ".weight";
    row.weight = place.weight;
    const float offset = of_heads ? 0 : config_.norm.kind.offset;
    row.initial = offset == 1 ? Initial::zeros : Initial::ones;  // so that a norm multiplies by 1
    out_.rows_.push_back(row);
    if (place.bias == nullptr) return;
    row.name = module + ".bias";
    row.weight = place.bias;
    row.initial = Initial::zeros;
    out_.rows_.push_back(row);
  }

  // This rank's slice of the part over `axis`, if the plan splits the module.
  void slice(Parameter& row, Part part, int64_t layer, int axis) const {
    row.count = row.stride = row.shape[0];
    if (part == Part::embedding || part == Part::head) {
      const VocabularySlice& vocabulary = part == Part::embedding ? out_.embedding_slice_ : out_.head_slice_;
      row.axis = vocabulary.split ? 0 : -1;
      row.begin = vocabulary.begin;
      row.count = vocabulary.count;
      row.stride = vocabulary.rows;
      row.counts_in_norm = vocabulary.split || rank_ == 0;
      return;
    }
    const LayerLayout& layout = out_.layout(layer);
    const bool attention = part == Part::q || part == Part::k || part == Part::v || part == Part::o;
    if (axis < 0 || !(attention ? layout.attention_split : layout.mlp_split)) {
      row.counts_in_norm = rank_ == 0;
      return;
    }
    const bool kv = part == Part::k || part == Part::v;
    row.replicas = kv ? layout.kv_replicas : 1;
    row.axis = axis;
    // The axis has ranks / replicas slices; rank r holds slice ⌊r / replicas⌋, and the first that holds it counts it.
    row.count = row.stride = row.shape[axis] * row.replicas / size_;
    row.begin = rank_ / row.replicas * row.count;
    row.counts_in_norm = rank_ % row.replicas == 0;
    row.summed_over = row.replicas > 1 ? GradientSum::kv_replicas : GradientSum::none;
  }

  const ModelConfig& config_;
  int64_t rank_, size_;
  bool sequence_parallel_;
  Parameters& out_;
};

Parameters::Parameters(const ModelConfig& config, int64_t tp_rank, int64_t tp_size, bool sequence_parallel) {
  check_tensor_parallel(config, tp_size);
  ParametersBuilder(config, tp_rank, tp_size, sequence_parallel, *this).build();
}

}  // namespace llama_tp
