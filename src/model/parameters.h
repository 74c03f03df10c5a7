// The one table that drives everything. What is stored is a packed tensor (a Weight: q, k and v in one, gate and up in
// one); a row of the table (a Parameter) is the part of it that one named tensor of the checkpoint fills: which rows,
// which slice of the file's tensor, who counts it in the norm, over whom its gradient is summed. Load, init, gradient
// sync, the gradients' norm, save and inspect walk this table; the optimizer updates whole weights.
//
// What is kept lies in units, flat buffers of several weights. Where FSDP shards them a rank has one piece of each, and
// the whole of a weight only while its unit is gathered (model/fsdp.h).
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "backend/arena.h"
#include "base/parts.h"
#include "model/config.h"

namespace llama_tp {

struct OptimizerTensors;
struct Runtime;

// A tensor as products see it: [out, in] with out split (column-parallel), in split (row-parallel) or neither. Views of
// its unit.
struct Weight {
  std::string name;
  int64_t unit = 0;
  Shape shape;
  bool decays = true;  // weight decay; not on biases and norms
  int64_t offset = 0;  // of its first element in the unit
  Tensor value;        // of the run's type
  Tensor gradient;  // f32: a sum over tokens, micro-batches and ranks; in bf16 a term below 1/512 of it would be lost
};

// Elements after which a weight may begin: aligned in every type that is stored.
constexpr int64_t alignment_elements = Arena::alignment / size_of(DType::bf16);

// A rank's place among those that share every unit.
struct Sharding {
  int rank = 0, size = 1;
};

// A run of elements that a rank holds of a weight or of a part of it: which of it, and where in the unit's buffers.
struct Piece {
  int64_t begin = 0, count = 0;  // elements of the weight, or of this rank's slice of the part
  int64_t at = 0;
  Tensor of(const Tensor& stored) const { return stored.rows(at, count); }
};

// One flat buffer a category, [elements / shards]: weights one after another, each at a multiple of Arena::alignment
// bytes, in the layout that products read, and zeros behind the last.
struct Unit {
  std::vector<Weight*> weights;
  int64_t elements = 0;  // of all shards
  Sharding sharding;
  Tensor value;           // of the run's type
  Tensor rest;            // bf16: what completes value to its f32 master (backend.h, OptimizerTensors)
  Tensor gradient, m, v;  // f32; the gradient after it was reduced

  int64_t shard_elements() const { return elements / sharding.size; }
  // What shard `rank` holds of elements [first, first + count).
  Piece piece(int64_t first, int64_t count, int rank) const;
  Piece piece(const Weight& weight) const { return piece(weight.offset, weight.shape.elements(), sharding.rank); }
  OptimizerTensors optimizer_tensors(const Piece& piece) const;
  // Lets the weights be views of these whole buffers; of none: they cannot be used until the next gathering.
  void bind_values(const Tensor& whole) const;
  void bind_gradients(const Tensor& whole) const;
};

struct Linear {
  Weight* weight = nullptr;
  Weight* bias = nullptr;  // may be absent
  Tensor bias_value() const { return bias == nullptr ? Tensor{} : bias->value; }
};

struct Norm {
  Weight* weight = nullptr;
  Weight* bias = nullptr;
  Tensor bias_value() const { return bias == nullptr ? Tensor{} : bias->value; }
  Tensor bias_gradient() const { return bias == nullptr ? Tensor{} : bias->gradient; }
};

struct BlockWeights {
  Norm attention_norm, mlp_norm;
  Norm q_norm, k_norm;           // of each head; absent in most families
  Linear qkv, o, gate_up, down;  // gate_up: up alone where there is no gate
};

enum class Initial : uint8_t { normal, zeros, ones };
// Over whom the gradient of a part is summed after backward.
enum class GradientSum : uint8_t { none, kv_replicas, tensor_parallel };

struct Parameter {
  std::string name;       // of the tensor in the file, Hugging Face's
  std::string tied_name;  // of the head's, which is the same tensor as this embedding; "" of all others
  Shape file_shape;       // of that whole tensor
  int64_t file_row = 0;   // the part's first row in it (0 unless the file packs several parts)
  Shape shape;            // of the part, global
  std::string style;      // of the plan
  Weight* weight = nullptr;
  int64_t weight_row = 0;        // the part's first row in the stored tensor
  int axis = -1;                 // split over: 0 out, 1 in, −1 not at all
  int64_t begin = 0, count = 0;  // this rank's slice of that axis (of axis 0 where there is no split)
  int64_t stride = 0;            // slices of successive ranks begin so far apart; the last ones may be shorter
  int64_t replicas = 1;          // consecutive tp ranks that hold the same slice
  bool counts_in_norm = true;    // on this rank; of those that hold the same, one does
  GradientSum summed_over = GradientSum::none;
  Initial initial = Initial::normal;

  int64_t columns() const { return file_shape.rank() > 1 ? file_shape[1] : 1; }  // of the file's tensor and the part
  std::vector<int64_t> file_extents() const;
  // This rank's slice: rows of its weight, one after another.
  int64_t slice_rows() const { return axis == 0 ? count : shape[0]; }
  int64_t slice_columns() const { return weight->shape.elements() / weight->shape[0]; }
};

// How much of a block this rank computes.
struct LayerLayout {
  bool attention_split = false, mlp_split = false;
  int64_t heads = 0, kv_heads = 0, ffn = 0;
  int64_t kv_replicas = 1;  // consecutive tp ranks that hold the same key/value heads
  bool sequence_parallel = false;
  bool rotary = true;  // do its queries and keys rotate?
  int64_t window = 0;  // of its attention (AttentionOptions)
};

// The rows of the vocabulary that this rank holds: count of them exist, from begin on; the rest up to `rows` pads them.
struct VocabularySlice {
  bool split = false;
  int64_t rows = 0, begin = 0, count = 0;
  bool sequence_parallel = false;  // of what the embedding gives and the head gets
};

// What a rank has memory for: the weights alone, or also gradients, master weights and moments.
enum class Holds : uint8_t { weights, training_state };

class Parameters {
 public:
  // sequence_parallel: between the regions that the plan splits each rank has its part of the tokens, and so a part of
  // the norms' gradients. Errors: check_tensor_parallel's.
  Parameters(const ModelConfig& config, int64_t tp_rank, int64_t tp_size, bool sequence_parallel = false);
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  // Takes the memory of this rank's shard. Before a Transformer is made of them; returns *this, for its initializer.
  Parameters& allocate(Runtime& runtime, Holds holds);
  // The same of any rank's, by a plan.
  void allocate(Arena& state, DType dtype, Holds holds, Sharding sharding);

  // The embedding (with a tied head), the blocks, the head, and all norms of the residual stream together: the end of a
  // block is fused with the norm that opens the next one, so they are needed longer than a block is.
  const std::vector<Unit>& units() const { return units_; }
  const Unit& unit_of(const Weight& weight) const { return units_[static_cast<size_t>(weight.unit)]; }
  const Unit& unit_of(const Parameter& row) const { return unit_of(*row.weight); }
  const Unit& block_unit(int64_t layer) const { return units_[static_cast<size_t>(1 + layer)]; }
  const Unit& norm_unit() const { return units_.back(); }
  // What a rank of the sharding holds of this rank's slice of a parameter.
  Piece piece(const Parameter& row, int shard) const;
  Piece piece(const Parameter& row) const { return piece(row, unit_of(row).sharding.rank); }

  const LayerLayout& layout(int64_t layer) const { return layouts_[static_cast<size_t>(layer)]; }
  const VocabularySlice& embedding_slice() const { return embedding_slice_; }
  const VocabularySlice& head_slice() const { return head_slice_; }

  std::vector<Parameter>& rows() { return rows_; }
  const std::vector<Parameter>& rows() const { return rows_; }
  std::deque<Weight>& weights() { return weights_; }
  Weight& embedding() { return *embedding_; }
  Weight& head() { return *head_; }  // the embedding's where they are tied
  Norm& final_norm() { return final_norm_; }
  BlockWeights& block(int64_t layer) { return blocks_[static_cast<size_t>(layer)]; }

 private:
  friend class ParametersBuilder;
  std::deque<Weight> weights_;
  std::vector<Unit> units_;
  std::vector<Parameter> rows_;
  std::vector<BlockWeights> blocks_;
  std::vector<LayerLayout> layouts_;
  Weight *embedding_ = nullptr, *head_ = nullptr;
  Norm final_norm_;
  VocabularySlice embedding_slice_, head_slice_;
};

// The number of the model's parameters, tied ones once.
int64_t parameter_count(const ModelConfig& config);

}  // namespace llama_tp
