#include "model/config.h"

#include <cmath>

#include "base/json.h"
#include "model/shipped_configs.h"

namespace llama_tp {

namespace {

// Beyond these a value is a slip of the pen.
constexpr int64_t largest_size = int64_t{1} << 24;  // of any one dimension
constexpr int64_t most_layers = int64_t{1} << 14;
constexpr double most_parameters = 1e14;
constexpr double least_number = 1e-30, largest_number = 1e30;  // whose products float32 still holds

// A value for a complaint, however long it is.
std::string shown(const OrderedJson& value) {
  constexpr size_t most = 60;
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  const std::string text = json_text_in_ascii(value);
  return text.size() <= most ? text : text.substr(0, most) + "…";
}

// "1, 2, 3 or 6"
std::string divisors(int64_t number) {
  std::string list = "1";
  for (int64_t divisor = 2; divisor <= number; divisor++)
    if (number % divisor == 0) list += (divisor == number ? " or " : ", ") + std::to_string(divisor);
  return list;
}

// config.json with the name of the file in every complaint, and the family's options resolved against it.
class Reader {
 public:
  Reader(const std::filesystem::path& file) : source_(file.string()) {
    json_ = parse_ordered_json_or_discard(config_text(source_));
    require(json_.is_object(), source_, ": not a JSON object; it may be cut or not a config.json");
  }

  const std::string& source() const { return source_; }
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  const OrderedJson& operator[](const char* key) const { return json_[key]; }

  int64_t size(const char* key, int64_t most = largest_size) const {
    require(has(key), source_, ": ", key, " is missing; it is needed to build the model");
    return size_of(key, json_[key], most);
  }
  int64_t size_or(const char* key, int64_t otherwise) const { return has(key) ? size(key) : otherwise; }
  int64_t size_of(const std::string& name, const OrderedJson& value, int64_t most) const {
    require(value.is_number_integer(), source_, ": ", name, " is ", shown(value), "; it must be a whole number");
    const auto number = value.get<int64_t>();  // negative for what does not fit
    require(number >= 1 && number <= most, source_, ": ", name, " is ", shown(value), "; it must lie between 1 and ",
            most);
    return number;
  }

  double number_or(const char* key, double otherwise) const {
    return has(key) ? number_of(key, json_[key]) : otherwise;
  }
  double number_of(const std::string& name, const OrderedJson& value) const {
    require(value.is_number(), source_, ": ", name, " is ", shown(value), "; it must be a number");
    const auto number = value.get<double>();
    require(number >= least_number && number <= largest_number, source_, ": ", name, " is ", shown(value),
            "; it must lie between ", least_number, " and ", largest_number);
    return number;
  }

  // An option of the family: a value, "$key" or "$key|value".
  OrderedJson option(const Family& family, const std::string& name) const {
    const auto found = family.options.find(name);
    require(found != family.options.end(), "family ", family.name, ": option ", name, " is missing");
    const OrderedJson value = parse_ordered_json_or_discard(found->second);
    if (!value.is_string() || !value.get<std::string>().starts_with("$")) return value;
    const std::string reference = value.get<std::string>().substr(1), key = reference.substr(0, reference.find('|'));
    if (json_.contains(key) && !json_[key].is_null()) return json_[key];
    require(key.size() < reference.size(), source_, ": ", key, " is missing; the ", family.name, " family needs it");
    return parse_ordered_json_or_discard(reference.substr(key.size() + 1));
  }
  // What config.json calls an option.
  static std::string key_of(const Family& family, const std::string& name) {
    const OrderedJson value = parse_ordered_json_or_discard(family.options.at(name));
    if (!value.is_string() || !value.get<std::string>().starts_with("$")) return name;
    const std::string reference = value.get<std::string>().substr(1);
    return reference.substr(0, reference.find('|'));
  }
  bool flag(const std::string& name, const OrderedJson& value) const {
    require(value.is_boolean(), source_, ": ", name, " is ", shown(value), "; it must be true or false");
    return value.get<bool>();
  }
  bool flag(const Family& family, const std::string& name) const {
    return flag(key_of(family, name), option(family, name));
  }
  std::string word(const Family& family, const std::string& name) const {
    const OrderedJson value = option(family, name);
    require(value.is_string(), source_, ": ", key_of(family, name), " is ", shown(value), "; it must be a string");
    return value.get<std::string>();
  }
  double positive(const Family& family, const std::string& name) const {
    return number_of(key_of(family, name), option(family, name));
  }

  std::optional<int64_t> token_id(const char* key, int64_t vocabulary) const {
    if (!has(key)) return std::nullopt;
    const OrderedJson& value = json_[key].is_array() && json_[key].size() == 1 ? json_[key][0] : json_[key];
    return token_id(key, value, vocabulary);
  }
  // -1 is none, as Llama's first files had it.
  std::optional<int64_t> token_id(const char* key, const OrderedJson& value, int64_t vocabulary) const {
    require(value.is_number_integer(), source_, ": ", key, " is ", shown(value), "; it must be a token id");
    const auto id = value.get<int64_t>();
    const bool fits = !value.is_number_unsigned() || value.get<uint64_t>() < static_cast<uint64_t>(vocabulary);
    require(fits && id >= -1 && id < vocabulary, source_, ": ", key, " is ", shown(value),
            ", outside of the vocabulary of ", vocabulary);
    return id < 0 ? std::nullopt : std::optional(id);
  }

 private:
  std::string source_;
  OrderedJson json_;
};

DType read_dtype(const Reader& reader) {
  const char* key = reader.has("dtype") ? "dtype" : "torch_dtype";
  if (!reader.has(key)) return DType::f32;
  const std::string word = reader[key].is_string() ? reader[key].get<std::string>() : shown(reader[key]);
  if (word == "float32") return DType::f32;
  if (word == "bfloat16") return DType::bf16;
  if (word == "float16") return DType::f16;
  fail(reader.source(), ": ", key, " is ", word, "; this program knows float32, bfloat16 and float16");
}

Activation read_activation(const Reader& reader, const Family& family) {
  const std::string word = reader.word(family, "activation");
  if (word == "silu" || word == "swish") return Activation::silu;
  if (word == "gelu_pytorch_tanh" || word == "gelu_new") return Activation::gelu_tanh;
  if (word == "relu2") return Activation::relu_squared;
  fail(reader.source(), ": ", reader.key_of(family, "activation"), " \"", word,
       "\" is not implemented; known: silu, gelu_pytorch_tanh, relu2");
}

NormKind read_norm(const Reader& reader, const Family& family) {
  const std::string word = reader.word(family, "norm");
  if (word == "rms") return NormKind::rms;
  if (word == "layer_norm_1p") return NormKind::layer_norm_1p;
  fail("family ", family.name, ": norm \"", word, "\" is not implemented; known: rms, layer_norm_1p");
}

// A value of rope_scaling or rope_parameters.
class RopeValues {
 public:
  RopeValues(const Reader& reader, const char* key)
      : reader_(reader), key_(key), values_(reader.has(key) ? reader[key] : OrderedJson::object()) {
    require(values_.is_object(), reader.source(), ": ", key, " is ", shown(values_), "; it must be an object");
    for (const auto& [name, value] : values_.items())
      require(!value.is_object(), reader.source(), ": ", key, ".", name,
              " is an object; rotary parameters that differ between layers are not implemented");
  }

  bool has(const char* name) const { return values_.contains(name) && !values_[name].is_null(); }
  const OrderedJson& operator[](const char* name) const { return values_[name]; }
  std::string named(const char* name) const { return std::string(key_) + "." + name; }
  double number(const char* name, double otherwise) const {
    return has(name) ? reader_.number_of(named(name), values_[name]) : otherwise;
  }
  double needed(const char* name) const {
    require(has(name), reader_.source(), ": ", named(name), " is missing; rope_type ", kind(), " needs it");
    return reader_.number_of(named(name), values_[name]);
  }
  std::string kind() const {
    const char* name = has("rope_type") ? "rope_type" : "type";
    if (!has(name)) return "default";
    require(values_[name].is_string(), reader_.source(), ": ", named(name), " is ", shown(values_[name]),
            "; it must be a string");
    return values_[name].get<std::string>();
  }

 private:
  const Reader& reader_;
  const char* key_;
  OrderedJson values_;
};

RopeConfig read_rope(const Reader& reader, int64_t max_positions) {
  const RopeValues values(reader, reader.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
  RopeConfig rope;
  rope.theta = values.number("rope_theta", reader.number_or("rope_theta", 10000));
  const std::string word = values.kind();
  if (word == "default") return rope;
  rope.kind = word == "linear"    ? RopeKind::linear
              : word == "dynamic" ? RopeKind::dynamic
              : word == "llama3"  ? RopeKind::llama3
                                  : RopeKind::standard;
  require(rope.kind != RopeKind::standard, reader.source(), ": ", values.named("rope_type"), " \"", word,
          "\" is not implemented; known: default, linear, dynamic, llama3");
  rope.factor = values.needed("factor");
  require(rope.factor >= 1, reader.source(), ": ", values.named("factor"), " is ", rope.factor,
          "; it must be 1 or more");
  rope.original_max_positions = max_positions;
  if (rope.kind != RopeKind::llama3) return rope;
  rope.low_frequency_factor = values.needed("low_freq_factor");
  rope.high_frequency_factor = values.needed("high_freq_factor");
  require(rope.high_frequency_factor > rope.low_frequency_factor, reader.source(), ": ",
          values.named("high_freq_factor"), " (", rope.high_frequency_factor, ") must be above low_freq_factor (",
          rope.low_frequency_factor, ")");
  const char* original = "original_max_position_embeddings";
  if (values.has(original))
    rope.original_max_positions = reader.size_of(values.named(original), values[original], largest_size);
  return rope;
}

void read_sizes(const Reader& reader, ModelConfig& config) {
  config.hidden = reader.size("hidden_size");
  config.layers = reader.size("num_hidden_layers", most_layers);
  config.heads = reader.size("num_attention_heads");
  config.kv_heads = reader.size_or("num_key_value_heads", config.heads);
  config.ffn = reader.size("intermediate_size");
  config.vocabulary = reader.size("vocab_size");
  config.max_positions = reader.size_or("max_position_embeddings", 2048);
  if (config.heads % config.kv_heads != 0)
    fail(reader.source(), ": num_key_value_heads (", config.kv_heads, ") does not divide num_attention_heads (",
         config.heads, "); it can be ", divisors(config.heads));
  require(reader.has("head_dim") || config.hidden % config.heads == 0, reader.source(), ": num_attention_heads (",
          config.heads, ") does not divide hidden_size (", config.hidden,
          "); give head_dim where heads have a size of their own");
  config.head_dim = reader.size_or("head_dim", config.hidden / config.heads);
  const auto real = [](int64_t value) { return static_cast<double>(value); };
  const double layer =
      real(config.hidden) * (2 * real(config.head_dim) * real(config.heads + config.kv_heads) + 3 * real(config.ffn));
  const double all = real(config.layers) * layer + 2 * real(config.vocabulary) * real(config.hidden);
  require(all <= most_parameters, reader.source(), ": its sizes make ", all,
          " parameters; check num_hidden_layers, hidden_size, intermediate_size, num_attention_heads and head_dim");
}

void read_options(const Reader& reader, ModelConfig& config) {
  const Family& family = *config.family;
  config.norm = {read_norm(reader, family), static_cast<float>(reader.positive(family, "norm_epsilon"))};
  config.norm_bias = reader.flag(family, "norm_bias");
  config.activation = {read_activation(reader, family), reader.flag(family, "gated")};
  config.qkv_bias = reader.flag(family, "qkv_bias");
  config.o_bias = reader.flag(family, "o_bias");
  config.mlp_bias = reader.flag(family, "mlp_bias");
  config.qk_norm = reader.flag(family, "qk_norm");
  const double turning = static_cast<double>(config.head_dim) * reader.positive(family, "rotary_fraction");
  config.rotary_dim = static_cast<int64_t>(turning);
  require(config.rotary_dim >= 2 && config.rotary_dim % 2 == 0 && config.rotary_dim <= config.head_dim, reader.source(),
          ": head_dim (", config.head_dim, ") gives ", config.rotary_dim,
          " rotary elements; rotary positions turn pairs, so this must be even");
  const OrderedJson window = reader.option(family, "window");
  require(window.is_null() || window.is_number_integer(), reader.source(), ": the attention window is ", shown(window),
          "; it must be a whole number or null");
  config.window = window.is_null() ? 0 : window.get<int64_t>();
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
}

void read_token_ids(const Reader& reader, ModelConfig& config) {
  config.bos_id = reader.token_id("bos_token_id", config.vocabulary);
  config.pad_id = reader.token_id("pad_token_id", config.vocabulary);
  if (!reader.has("eos_token_id")) return;
  const OrderedJson& eos = reader["eos_token_id"];
  for (const OrderedJson& id : eos.is_array() ? eos : OrderedJson::array({eos})) {
    const std::optional<int64_t> value = reader.token_id("eos_token_id", id, config.vocabulary);
    if (value.has_value()) config.eos_ids.push_back(*value);
  }
}

void read_plan(const Reader& reader, ModelConfig& config) {
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

ModelConfig read_model_config(const std::filesystem::path& file) {
  const Reader reader(file);
  require(reader.has("model_type") && reader["model_type"].is_string(), reader.source(),
          ": model_type is missing or no string; it tells the family, \"llama\" for instance");
  ModelConfig config;
  config.source = reader.source();
  config.family = &family_of_model_type(reader["model_type"].get<std::string>(), reader.source());
  read_sizes(reader, config);
  read_options(reader, config);
  read_token_ids(reader, config);
  read_plan(reader, config);
  config.rope = read_rope(reader, config.max_positions);
  config.tied = reader.has("tie_word_embeddings") && reader.flag("tie_word_embeddings", reader["tie_word_embeddings"]);
  config.initializer_range = reader.number_or("initializer_range", 0.02);
  config.dtype = read_dtype(reader);
  return config;
}

std::string config_text_with_dtype(const std::filesystem::path& file, DType dtype) {
  OrderedJson json = parse_ordered_json_or_discard(config_text(file.string()));
  require(json.is_object(), file.string(), ": not a JSON object any more; it changed while the program ran");
  const char* word = dtype == DType::f32 ? "float32" : dtype == DType::bf16 ? "bfloat16" : "float16";
  json.erase("_name_or_path");
  json[json.contains("dtype") ? "dtype" : "torch_dtype"] = word;
  return json_text(json, 2) + "\n";
}

}  // namespace llama_tp
