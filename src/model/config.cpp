#include "model/config.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace llama_tp {

namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr int64_t largest_size = int64_t{1} << 24;  // of any one dimension: beyond it a value is a slip of the pen

// config.json with the name of the file in every complaint, and the family's options resolved against it.
class Reader {
 public:
  Reader(const std::filesystem::path& file) : source_(file.string()) {
    std::ifstream stream(file);
    require(stream.good(), source_, ": cannot be read; a model folder has a config.json as Hugging Face writes it");
    json_ = Json::parse(stream, nullptr, false);
    require(json_.is_object(), source_, ": not a JSON object; it may be cut or not a config.json");
  }

  const std::string& source() const { return source_; }
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  const Json& operator[](const char* key) const { return json_[key]; }

  int64_t size(const char* key, int64_t least = 1) const {
    require(has(key), source_, ": ", key, " is missing; it is needed to build the model");
    return size_of_value(key, json_[key], least);
  }
  int64_t size_or(const char* key, int64_t otherwise, int64_t least = 1) const {
    return has(key) ? size(key, least) : otherwise;
  }

  double number(const Json& object, const std::string& key, double otherwise) const {
    if (!object.contains(key) || object[key].is_null()) return otherwise;
    require(object[key].is_number(), source_, ": ", key, " is ", object[key].dump(), "; it must be a number");
    const double value = object[key].get<double>();
    require(std::isfinite(value) && value > 0, source_, ": ", key, " is ", object[key].dump(), "; it must be above 0");
    return value;
  }
  double number_or(const char* key, double otherwise) const { return number(json_, key, otherwise); }

  // An option of the family: a value, "$key" or "$key|value".
  Json option(const Family& family, const std::string& name) const {
    const auto found = family.options.find(name);
    require(found != family.options.end(), "family ", family.name, ": option ", name, " is missing");
    const Json value = Json::parse(found->second);
    if (!value.is_string() || !value.get<std::string>().starts_with("$")) return value;
    const std::string reference = value.get<std::string>().substr(1), key = reference.substr(0, reference.find('|'));
    if (json_.contains(key) && !json_[key].is_null()) return json_[key];
    require(key.size() < reference.size(), source_, ": ", key, " is missing; the ", family.name, " family needs it");
    return Json::parse(reference.substr(key.size() + 1));
  }
  bool flag(const Family& family, const std::string& name) const {
    const Json value = option(family, name);
    require(value.is_boolean(), source_, ": ", name, " (", family.options.at(name), ") is ", value.dump(),
            "; it must be true or false");
    return value.get<bool>();
  }
  std::string word(const Family& family, const std::string& name) const {
    const Json value = option(family, name);
    require(value.is_string(), source_, ": ", name, " (", family.options.at(name), ") is ", value.dump(),
            "; it must be a string");
    return value.get<std::string>();
  }
  double positive(const Family& family, const std::string& name) const {
    return number(Json{{name, option(family, name)}}, name, 0);
  }

  std::optional<int64_t> token_id(const char* key, int64_t vocabulary) const {
    if (!has(key)) return std::nullopt;
    const Json& value = json_[key].is_array() && json_[key].size() == 1 ? json_[key][0] : json_[key];
    require(value.is_number_integer(), source_, ": ", key, " is ", value.dump(), "; it must be a token id");
    const auto id = value.get<int64_t>();
    require(id >= -1 && id < vocabulary, source_, ": ", key, " is ", id, ", outside of the vocabulary of ", vocabulary);
    return id < 0 ? std::nullopt : std::optional(id);
  }

 private:
  int64_t size_of_value(const char* key, const Json& value, int64_t least) const {
    require(value.is_number_integer(), source_, ": ", key, " is ", value.dump(), "; it must be a whole number");
    const bool fits = !value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(largest_size);
    require(fits && value.get<int64_t>() >= least && value.get<int64_t>() <= largest_size, source_, ": ", key, " is ",
            value.dump(), "; it must lie between ", least, " and ", largest_size);
    return value.get<int64_t>();
  }

  std::string source_;
  Json json_;
};

DType read_dtype(const Reader& reader) {
  const char* key = reader.has("dtype") ? "dtype" : "torch_dtype";
  if (!reader.has(key)) return DType::f32;
  const std::string word = reader[key].is_string() ? reader[key].get<std::string>() : reader[key].dump();
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
  fail(reader.source(), ": activation \"", word, "\" is not implemented; known: silu, gelu_pytorch_tanh, relu2");
}

NormKind read_norm(const Reader& reader, const Family& family) {
  const std::string word = reader.word(family, "norm");
  if (word == "rms") return NormKind::rms;
  if (word == "layer_norm_1p") return NormKind::layer_norm_1p;
  fail("family ", family.name, ": norm \"", word, "\" is not implemented; known: rms, layer_norm_1p");
}

RopeConfig read_rope(const Reader& reader, int64_t max_positions) {
  const bool parameters = reader.has("rope_parameters");
  const char* key = parameters ? "rope_parameters" : "rope_scaling";
  const Json scaling = reader.has(key) ? reader[key] : Json::object();
  require(scaling.is_object(), reader.source(), ": ", key, " is ", scaling.dump(), "; it must be an object");
  RopeConfig rope;
  rope.theta = reader.number(scaling, "rope_theta", reader.number_or("rope_theta", 10000));
  const Json kind = scaling.value("rope_type", scaling.value("type", Json("default")));
  require(kind.is_string(), reader.source(), ": ", key, ".rope_type is ", kind.dump(), "; it must be a string");
  const auto word = kind.get<std::string>();
  if (word == "default") return rope;
  rope.kind = word == "linear"    ? RopeKind::linear
              : word == "dynamic" ? RopeKind::dynamic
              : word == "llama3"  ? RopeKind::llama3
                                  : RopeKind::standard;
  require(rope.kind != RopeKind::standard, reader.source(), ": ", key, ".rope_type \"", word,
          "\" is not implemented; known: default, linear, dynamic, llama3");
  require(scaling.contains("factor"), reader.source(), ": ", key, ".factor is missing; rope_type ", word, " needs it");
  rope.factor = reader.number(scaling, "factor", 1);
  require(rope.factor >= 1, reader.source(), ": ", key, ".factor is ", rope.factor, "; it must be 1 or more");
  rope.original_max_positions = max_positions;
  if (rope.kind != RopeKind::llama3) return rope;
  rope.low_frequency_factor = reader.number(scaling, "low_freq_factor", 1);
  rope.high_frequency_factor = reader.number(scaling, "high_freq_factor", 4);
  require(rope.high_frequency_factor > rope.low_frequency_factor, reader.source(), ": ", key, ".high_freq_factor (",
          rope.high_frequency_factor, ") must be above low_freq_factor (", rope.low_frequency_factor, ")");
  rope.original_max_positions = static_cast<int64_t>(
      reader.number(scaling, "original_max_position_embeddings", static_cast<double>(max_positions)));
  return rope;
}

void read_sizes(const Reader& reader, ModelConfig& config) {
  config.hidden = reader.size("hidden_size");
  config.layers = reader.size("num_hidden_layers");
  config.heads = reader.size("num_attention_heads");
  config.kv_heads = reader.size_or("num_key_value_heads", config.heads);
  config.ffn = reader.size("intermediate_size");
  config.vocabulary = reader.size("vocab_size");
  config.max_positions = reader.size_or("max_position_embeddings", 2048);
  require(config.heads % config.kv_heads == 0, reader.source(), ": num_key_value_heads (", config.kv_heads,
          ") does not divide num_attention_heads (", config.heads,
          "); each group of query heads shares one key/value head");
  require(reader.has("head_dim") || config.hidden % config.heads == 0, reader.source(), ": num_attention_heads (",
          config.heads, ") does not divide hidden_size (", config.hidden,
          "); give head_dim where heads have a size of their own");
  config.head_dim = reader.size_or("head_dim", config.hidden / config.heads);
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
  const Json window = reader.option(family, "window");
  require(window.is_null() || window.is_number_integer(), reader.source(), ": the attention window is ", window.dump(),
          "; it must be a whole number or null");
  config.window = window.is_null() ? 0 : window.get<int64_t>();
  config.attention_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)));
}

void read_token_ids(const Reader& reader, ModelConfig& config) {
  config.bos_id = reader.token_id("bos_token_id", config.vocabulary);
  config.pad_id = reader.token_id("pad_token_id", config.vocabulary);
  if (!reader.has("eos_token_id")) return;
  const Json& eos = reader["eos_token_id"];
  for (const Json& id : eos.is_array() ? eos : Json::array({eos})) {
    require(id.is_number_integer(), reader.source(), ": eos_token_id is ", eos.dump(),
            "; it must be a token id or a list of them");
    const auto value = id.get<int64_t>();
    require(value < config.vocabulary, reader.source(), ": eos_token_id is ", value, ", outside of the vocabulary of ",
            config.vocabulary);
    if (value >= 0) config.eos_ids.push_back(value);
  }
}

void read_plan(const Reader& reader, ModelConfig& config) {
  if (!reader.has("tp_plan")) return;
  const Json& plan = reader["tp_plan"];
  require(plan.is_object(), reader.source(), ": tp_plan is ", plan.dump(), "; it must map module patterns to styles");
  for (const auto& [pattern, style] : plan.items()) {
    require(style.is_string(), reader.source(), ": tp_plan[\"", pattern, "\"] is ", style.dump(),
            "; it must name a style");
    config.plan_overrides.emplace_back(pattern, style.get<std::string>());
  }
}

}  // namespace

ModelConfig read_model_config(const std::filesystem::path& file) {
  const Reader reader(file);
  require(reader.has("model_type") && reader["model_type"].is_string(), reader.source(),
          ": model_type is missing; it tells the family, \"llama\" for instance");
  ModelConfig config;
  config.source = reader.source();
  config.family = &family_of_model_type(reader["model_type"].get<std::string>(), reader.source());
  read_sizes(reader, config);
  read_options(reader, config);
  read_token_ids(reader, config);
  read_plan(reader, config);
  config.rope = read_rope(reader, config.max_positions);
  require(!reader.has("tie_word_embeddings") || reader["tie_word_embeddings"].is_boolean(), reader.source(),
          ": tie_word_embeddings is not true or false");
  config.tied = reader.has("tie_word_embeddings") && reader["tie_word_embeddings"].get<bool>();
  config.initializer_range = reader.number_or("initializer_range", 0.02);
  config.dtype = read_dtype(reader);
  return config;
}

std::string config_text_with_dtype(const std::filesystem::path& file, DType dtype) {
  std::ifstream stream(file);
  OrderedJson json = OrderedJson::parse(stream, nullptr, false);
  require(json.is_object(), file.string(), ": not a JSON object any more; it changed while the program ran");
  const char* word = dtype == DType::f32 ? "float32" : dtype == DType::bf16 ? "bfloat16" : "float16";
  json.erase("_name_or_path");
  json[json.contains("dtype") ? "dtype" : "torch_dtype"] = word;
  return json.dump(2) + "\n";
}

}  // namespace llama_tp
