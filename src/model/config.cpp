#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "io/token_ids.h"
#include "model/config_reader.h"
#include "model/layer_config.h"
#include "model/plan.h"
#include "model/rope_config.h"
#include "model/shipped_configs.h"

namespace llama_tp {

namespace {

// Beyond these a value is a slip of the pen.
constexpr int64_t most_layers = int64_t{1} << 14;
constexpr double most_parameters = 1e14;

// "1, 2, 3 or 6"
std::string divisors(int64_t number) {
  std::string list = "1";
  for (int64_t divisor = 2; divisor <= number; divisor++)
    if (number % divisor == 0) list += (divisor == number ? " or " : ", ") + std::to_string(divisor);
  return list;
}

DType read_dtype(const ConfigReader& reader) {
  const char* key = reader.has("dtype") ? "dtype" : "torch_dtype";
  if (!reader.has(key)) return DType::f32;
  const std::string word = reader[key].is_string() ? reader[key].get<std::string>() : shown(reader[key]);
  const std::optional<DType> dtype = dtype_with_torch_name(word);
  require(dtype.has_value(), reader.source(), ": ", key, " is ", word,
          "; this program knows float32, bfloat16 and float16");
  return *dtype;
}

// Of config.json; some have two words, as in transformers.
constexpr std::pair<std::string_view, Activation> activations[]{{"silu", Activation::silu},
                                                                {"swish", Activation::silu},
                                                                {"gelu_pytorch_tanh", Activation::gelu_tanh},
                                                                {"gelu_new", Activation::gelu_tanh},
                                                                {"relu2", Activation::relu_squared}};

Activation read_activation(const ConfigReader& reader) {
  const std::string word = reader.word("activation");
  std::string known;
  for (const auto& [name, activation] : activations) {
    if (name == word) return activation;
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  fail(reader.source(), ": ", reader.option("activation").name, " \"", word, "\" is not implemented; known: ", known);
}

NormKind read_norm(const ConfigReader& reader) {
  const std::string word = reader.word("norm");
  if (word == "rms") return NormKind::rms;
  if (word == "rms_1p") return NormKind::rms_1p;
  if (word == "layer_norm") return NormKind::layer_norm;
  if (word == "layer_norm_1p") return NormKind::layer_norm_1p;
  fail("family ", reader.family()->name, ": norm \"", word,
       "\" is not implemented; known: rms, rms_1p, layer_norm, layer_norm_1p");
}

// By this key transformers reads the weights, and so it would those of a checkpoint that keeps it.
void refuse_quantized(const ConfigReader& reader) {
  require(!reader.has("quantization_config"), reader.source(),
          ": quantization_config: the model is quantized; weights are read as F32, BF16 or F16: take the original "
          "model, or, where its weights have been converted back, remove quantization_config");
}

void read_sizes(const ConfigReader& reader, ModelConfig& config) {
  config.hidden = reader.size("hidden_size");
  config.layers = reader.size("num_hidden_layers", most_layers);
  config.heads = reader.size("num_attention_heads");
  config.kv_heads = reader.size_if("kv_heads").value_or(config.heads);
  config.ffn = reader.size("intermediate_size");
  config.vocabulary = reader.size("vocab_size");
  config.max_positions = reader.size("max_positions");
  const auto key = [&](const char* option) { return reader.option(option).name; };
  if (config.heads % config.kv_heads != 0)
    fail(reader.source(), ": ", key("kv_heads"), " (", config.kv_heads, ") does not divide ",
         key("num_attention_heads"), " (", config.heads, "); it can be ", divisors(config.heads));
  const std::optional<int64_t> head_dim = reader.size_if("head_dim");
  require(head_dim || config.hidden % config.heads == 0, reader.source(), ": ", key("num_attention_heads"), " (",
          config.heads, ") does not divide ", key("hidden_size"), " (", config.hidden,
          "); give head_dim where heads have a size of their own");
  config.head_dim = head_dim.value_or(config.hidden / config.heads);
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const double layer =
      real(config.hidden) * (2 * real(config.head_dim) * real(config.heads + config.kv_heads) + 3 * real(config.ffn));
  const double all = real(config.layers) * layer + 2 * real(config.vocabulary) * real(config.hidden);
  require(all <= most_parameters, reader.source(), ": its sizes make ", all, " parameters; check ",
          key("num_hidden_layers"), ", ", key("hidden_size"), ", ", key("intermediate_size"), ", ",
          key("num_attention_heads"), " and head_dim");
}

// In transformers null is false here, too.
void refuse_attention_both_ways(const ConfigReader& reader) {
  if (reader.contains("is_causal") && reader["is_causal"] != true)
    fail(reader.source(), ": is_causal is ", shown(reader["is_causal"]),
         "; attention to later tokens is not implemented: make it true, or leave it out");
}

// What the head gives is multiplied, or divided: logits_scaling is a divisor in Granite, a factor in HyperCLOVA X.
double read_logits_multiplier(const ConfigReader& reader) {
  const bool multiplied = !reader.option("logits_multiplier").value.is_null();
  const bool divided = !reader.option("logits_divisor").value.is_null();
  require(!multiplied || !divided, "family ", reader.family()->name,
          ": has both options logits_multiplier and logits_divisor; make one of them null");
  if (multiplied) return reader.positive("logits_multiplier");
  return divided ? 1.0 / reader.positive("logits_divisor") : 1;
}

// Of keys whose other values are other blocks. null says nothing, as in transformers.
void refuse_other_blocks(const ConfigReader& reader) {
  for (const auto& [key, array] : reader.family()->only) {
    if (!reader.has(key.c_str())) continue;
    const OrderedJson values = parse_ordered_json_or_discard(array), value = reader[key.c_str()];
    std::string known;
    for (const OrderedJson& one : values) known += (known.empty() ? "" : ", ") + shown(one);
    require(std::find(values.begin(), values.end(), value) != values.end(), reader.source(), ": ", key, " is ",
            shown(value), ", which is not implemented in the ", reader.family()->name, " family; known: ", known);
  }
}

void read_options(const ConfigReader& reader, ModelConfig& config) {
  refuse_attention_both_ways(reader);
  refuse_other_blocks(reader);
  config.norm = {read_norm(reader), static_cast<float>(reader.positive("norm_epsilon"))};
  config.norm_bias = reader.flag("norm_bias");
  require(!config.norm_bias || config.norm.kind.centers, reader.source(), ": ", reader.option("norm_bias").name,
          " is true, but family ", reader.family()->name, " has the norm ", reader.word("norm"),
          ", which has no bias; make it false, or the norm layer_norm or layer_norm_1p");
  config.activation = {read_activation(reader), reader.flag("gated")};
  config.qkv_bias = reader.flag("qkv_bias");
  config.o_bias = reader.flag("o_bias");
  config.mlp_bias = reader.flag("mlp_bias");
  config.qk_norm = reader.flag("qk_norm");
  config.tied = reader.flag("tied");
  const double share = reader.positive("rotary_fraction");
  require(share <= 1, reader.source(), ": ", reader.option("rotary_fraction").name, " is ", share,
          "; no more than all of a head can rotate: 1");
  config.rotary_dim = static_cast<int64_t>(static_cast<double>(config.head_dim) * share);
  require(config.rotary_dim >= 2 && config.rotary_dim % 2 == 0, reader.source(), ": head_dim (", config.head_dim,
          ") gives ", config.rotary_dim, " rotary elements; rotary positions rotate pairs, so this must be even");
  config.rotary_layers = read_rotary_layers(reader, config.layers);
  config.windows = read_windows(reader, config.rotary_layers);
  const bool scaled = !reader.option("attention_multiplier").value.is_null();
  config.attention_scale = static_cast<float>(scaled ? reader.positive("attention_multiplier")
                                                     : 1.0 / std::sqrt(static_cast<double>(config.head_dim)));
  config.residual_multiplier = static_cast<float>(reader.positive("residual_multiplier"));
  config.embedding_multiplier = static_cast<float>(reader.positive("embedding_multiplier"));
  config.embedding_multiplier_rounded = reader.flag("embedding_multiplier_rounded");
  config.logits_multiplier = static_cast<float>(read_logits_multiplier(reader));
  config.initializer_range = reader.positive("initializer_range");
}

// Each part that the block has by its options is one module's, and no other part is.
void check_parts(const ModelConfig& config) {
  const Family& family = *config.family;
  const auto of = [&](Part part) {
    int64_t times = 0;
    for (const Module& module : family.modules) times += std::count(module.parts.begin(), module.parts.end(), part);
    return times;
  };
  for (int i = 0; i <= static_cast<int>(Part::head); i++) {
    const auto part = static_cast<Part>(i);
    const bool has = part == Part::gate                             ? config.activation.gated
                     : part == Part::q_norm || part == Part::k_norm ? config.qk_norm
                                                                    : true;
    if (part == Part::head && config.tied) continue;
    require(of(part) == (has ? 1 : 0), "family ", family.name, ": its modules have the part ", name_of(part), " ",
            of(part), " times; by its options the block has ", has ? "one" : "none");
  }
  for (const Module& module : family.modules)
    for (const Part part : module.parts)
      require(module.parts.size() == 1 || part == Part::q || part == Part::k || part == Part::v || part == Part::gate ||
                  part == Part::up,
              "family ", family.name, ": ", module.name, " packs ", name_of(part),
              "; only q, k, v, gate and up can be packed");
}

// A block's tensors have a name in each layer, and no two tensors have the same: what is trained is saved.
void check_names(const ModelConfig& config) {
  const std::string& family = config.family->name;
  std::set<std::string> names;
  for (const Module& module : config.family->modules) {
    const Part part = module.parts.front();
    const auto stars = std::count(module.name.begin(), module.name.end(), '*');
    require(!module.name.empty() && stars == (outside_blocks(part) ? 0 : 1), "family ", family, ": the name of ",
            name_of(part), " is \"", module.name, "\"; it must be a name ",
            outside_blocks(part) ? "without *, as it is outside of the blocks"
                                 : "with one *, where the number of the layer stands");
    if (part == Part::head && config.tied) continue;
    require(names.insert(module.name).second, "family ", family, ": two modules have the name ", module.name,
            "; parts of one tensor are one module, with a list of them");
  }
}

// torch refuses one that its embedding has no row for. A default of the family's is none where the vocabulary is smaller.
std::optional<int64_t> read_pad_id(const ConfigReader& reader, int64_t vocabulary) {
  const auto [name, value] = reader.option("pad_id");
  if (value.is_null()) return std::nullopt;
  const std::optional<int64_t> id = reader.token_id(name, value, vocabulary);
  require(id || is_no_id(value) || !reader.contains("pad_token_id"), reader.source(), ": ", name, " is ", shown(value),
          ", outside of the vocabulary of ", vocabulary, "; take null for none");
  return id;
}

// The one or several ids of a key that begin or end a text. No text holds one from outside of the vocabulary.
std::vector<int64_t> read_ends(const ConfigReader& reader, const char* key, ModelConfig& config) {
  if (!reader.has(key)) return {};
  const std::optional<TokenIds> found = token_ids_of(key, reader[key], config.vocabulary);
  require(found.has_value(), reader.source(), ": ", key, " is ", shown(reader[key]), "; it must be a token id");
  config.unmet_ids.insert(config.unmet_ids.end(), found->unmet.begin(), found->unmet.end());
  return found->ids;
}

void read_token_ids(const ConfigReader& reader, ModelConfig& config) {
  config.pad_id = read_pad_id(reader, config.vocabulary);
  config.eos_ids = read_ends(reader, "eos_token_id", config);
  const std::vector<int64_t> begins = read_ends(reader, "bos_token_id", config);
  require(begins.size() <= 1, reader.source(), ": bos_token_id is an array; it must be a token id");
  if (!begins.empty()) config.bos_id = begins[0];
}

void read_dropouts(const ConfigReader& reader, ModelConfig& config) {
  for (const char* key : dropout_keys)
    if (reader.has(key) && reader[key] != 0) config.dropouts.emplace_back(key);
}

void read_plan_overrides(const ConfigReader& reader, ModelConfig& config) {
  if (!reader.has("tp_plan")) return;
  const OrderedJson& plan = reader["tp_plan"];  // in its order: the later of two entries wins
  require(plan.is_object(), reader.source(), ": tp_plan is ", shown(plan), "; it must map module patterns to styles");
  for (const auto& [pattern, style] : plan.items()) {
    require(style.is_string(), reader.source(), ": tp_plan[\"", pattern, "\"] is ", shown(style),
            "; it must name a style");
    config.plan_overrides.emplace_back(pattern, style.get<std::string>());
  }
}

}  // namespace

ModelConfig read_model_config(const std::filesystem::path& file, FamilyPointer family) {
  ModelConfig config = read_config_without_plan(file, std::move(family));
  config.plan = resolve_plan(config);
  return config;
}

ModelConfig read_config_without_plan(const std::filesystem::path& file, FamilyPointer family) {
  const ConfigReader reader(file, std::move(family));
  ModelConfig config;
  config.source = reader.source();
  config.family = reader.family();
  refuse_quantized(reader);
  read_sizes(reader, config);
  read_options(reader, config);
  check_parts(config);
  check_names(config);
  read_token_ids(reader, config);
  read_dropouts(reader, config);
  read_plan_overrides(reader, config);
  config.rope = read_rope(reader, config.rotary_dim, config.max_positions);
  config.dtype = read_dtype(reader);
  config.unread = reader.unread_keys();
  config.chat_template = reader.chat_template();
  config.names_code = reader.has("auto_map");
  return config;
}

std::vector<std::string> left_out_of(const ModelConfig& config) {
  const auto listed = [](const std::vector<std::string>& words) {
    std::string list;
    for (const std::string& word : words) list += (list.empty() ? "" : ", ") + word;
    return list;
  };
  std::vector<std::string> lines;
  if (!config.rope.unread.empty())
    lines.push_back(text(config.source, ": not understood and left out: ", listed(config.rope.unread),
                         "; are they spelled right?"));
  if (!config.unmet_ids.empty()) lines.push_back(left_out_ids(config.source, config.vocabulary, config.unmet_ids));
  if (!config.family->text.empty() && !config.unread.empty())
    lines.push_back(text(config.source, ": not read by family ", config.family->name, ": ", listed(config.unread),
                         "; where one of them changes what the model computes, so must the family"));
  return lines;
}

FamilyPointer kept_family(const std::filesystem::path& file) {
  const OrderedJson json = parse_ordered_json_or_discard(config_text(file.string()));
  return json.is_object() ? family_kept_in(json, file.string()) : nullptr;
}

ChatTemplateChoice kept_chat_template(const std::filesystem::path& file) {
  const OrderedJson json = parse_ordered_json_or_discard(config_text(file.string()));
  return json.is_object() ? chat_template_kept_in(json, file.string()) : ChatTemplateChoice();
}

std::string saved_config_text(const ModelConfig& config, DType dtype, const std::string& chat_template) {
  OrderedJson json = parse_ordered_json_or_discard(config_text(config.source));
  require(json.is_object(), config.source, ": not a JSON object any more; it changed while the program ran");
  json.erase("_name_or_path");
  if (config.family->text.empty()) json.erase("auto_map");
  const bool has_new_key = json.contains("dtype");
  if (has_new_key) json.erase("torch_dtype");  // its older name, which would say another one
  json[has_new_key ? "dtype" : "torch_dtype"] = torch_name_of(dtype);
  if (!config.family->text.empty()) json[family_key] = parse_ordered_json_or_discard(config.family->text);
  if (!chat_template.empty()) json[chat_template_key] = chat_template;
  return json_text(json, 2) + "\n";
}

int64_t rows_of_part(const ModelConfig& config, Part part) {
  switch (part) {
    case Part::embedding:
    case Part::head:
      return config.vocabulary;
    case Part::q:
      return config.q_width();
    case Part::k:
    case Part::v:
      return config.kv_width();
    case Part::gate:
    case Part::up:
      return config.ffn;
    case Part::q_norm:
    case Part::k_norm:
      return config.head_dim;
    default:
      return config.hidden;
  }
}

int64_t columns_of_part(const ModelConfig& config, Part part) {
  return part == Part::o ? config.q_width() : part == Part::down ? config.ffn : config.hidden;
}

}  // namespace llama_tp
