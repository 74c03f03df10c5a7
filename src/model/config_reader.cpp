#include "model/config_reader.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "model/shipped_configs.h"

namespace llama_tp {

namespace {

const std::string newer_rope_key = "rope_parameters";
constexpr double least_number = 1e-30, largest_number = 1e30;  // whose products float32 still holds

// The pieces of "a|b|c".
std::vector<std::string> alternatives(const std::string& text) {
  std::vector<std::string> pieces;
  size_t begin = 0;
  for (size_t end = text.find('|'); end != std::string::npos; begin = end + 1, end = text.find('|', begin))
    pieces.push_back(text.substr(begin, end - begin));
  pieces.push_back(text.substr(begin));
  return pieces;
}

// What says nothing of the mathematics, is read of every model, or is seen by the tensors: biases and a tied head.
const std::set<std::string> keys_of_all{
    "architectures",  "auto_map",          "model_type",           "is_causal",
    "hidden_size",    "num_hidden_layers", "num_attention_heads",  "intermediate_size",
    "vocab_size",     "rope_theta",        "rope_scaling",         "rope_parameters",
    "bos_token_id",   "eos_token_id",      "torch_dtype",          "dtype",
    "tp_plan",        "use_cache",         "transformers_version", "_name_or_path",
    "attention_bias", "mlp_bias",          "tie_word_embeddings",  family_key,
    chat_template_key};

}  // namespace

std::string shown(const OrderedJson& value) {
  constexpr size_t most = 60;
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  const std::string text = json_text_in_ascii(value);
  return text.size() <= most ? text : text.substr(0, most) + "…";
}

FamilyPointer family_kept_in(const OrderedJson& config, const std::string& source) {
  const auto kept = config.find(family_key);
  return kept == config.end() ? nullptr : parse_family(json_text(*kept), source + ": " + family_key);
}

ChatTemplateChoice chat_template_kept_in(const OrderedJson& config, const std::string& source) {
  const auto kept = config.find(chat_template_key);
  if (kept == config.end() || kept->is_null()) return {};
  const std::string given_by = source + ": " + chat_template_key;
  require(kept->is_string(), given_by, " is ", shown(*kept), "; it must be the name of a chat template");
  return {kept->get<std::string>(), given_by};
}

ConfigReader::ConfigReader(const std::filesystem::path& file, FamilyPointer family)
    : source_(file.string()), family_(std::move(family)) {
  json_ = parse_ordered_json_or_discard(config_text(source_));
  require(json_.is_object(), source_, ": not a JSON object; it may be cut or not a config.json");
  if (family_ == nullptr) family_ = family_kept_in(json_, source_);
  if (family_ != nullptr) return;
  require(has("model_type") && json_["model_type"].is_string(), source_,
          ": model_type is missing or no string; it tells the family: ", known_model_types());
  family_ = family_of_model_type(json_["model_type"].get<std::string>(), source_);
}

int64_t ConfigReader::size_of(const std::string& name, const OrderedJson& value, int64_t most) const {
  require(value.is_number_integer(), source_, ": ", name, " is ", shown(value), "; it must be a whole number");
  const auto number = value.get<int64_t>();  // negative for what does not fit
  require(number >= 1 && number <= most, source_, ": ", name, " is ", shown(value), "; it must lie between 1 and ",
          most);
  return number;
}

double ConfigReader::number_of(const std::string& name, const OrderedJson& value) const {
  require(value.is_number(), source_, ": ", name, " is ", shown(value), "; it must be a number");
  const auto number = value.get<double>();
  require(number >= least_number && number <= largest_number, source_, ": ", name, " is ", shown(value),
          "; it must lie between ", least_number, " and ", largest_number);
  return number;
}

std::optional<int64_t> ConfigReader::token_id(const std::string& name, const OrderedJson& value,
                                              int64_t vocabulary) const {
  require(value.is_number_integer(), source_, ": ", name, " is ", shown(value), "; it must be a token id");
  const auto id = value.get<int64_t>();  // negative for what does not fit
  return id >= 0 && id < vocabulary ? std::optional(id) : std::nullopt;
}

const char* ConfigReader::rope_key() const {
  return has("rope_scaling") && !json_["rope_scaling"].empty() ? "rope_scaling" : newer_rope_key.c_str();
}

std::optional<OrderedJson> ConfigReader::find(const std::string& key) const {
  if (constexpr std::string_view root = "sqrt("; key.starts_with(root) && key.ends_with(')')) {
    const std::optional<OrderedJson> square = find(key.substr(root.size(), key.size() - root.size() - 1));
    return square && square->is_number() ? OrderedJson(std::sqrt(square->get<double>())) : square;
  }
  const size_t dot = key.find('.');
  const OrderedJson* object = &json_;
  if (dot != std::string::npos) {
    const auto outer = json_.find(key.substr(0, dot));
    if (outer == json_.end() || !outer->is_object()) return std::nullopt;
    object = &*outer;
  }
  const auto found = object->find(dot == std::string::npos ? key : key.substr(dot + 1));
  return found == object->end() ? std::nullopt : std::optional<OrderedJson>(*found);
}

OrderedJson ConfigReader::default_of(const std::string& option_name, const std::string& piece) const {
  OrderedJson value = parse_ordered_json_or_discard(piece);
  require(!value.is_discarded(), "family ", family_->name, ": option ", option_name, ": its default ", piece,
          " is no JSON; a word needs quotes: \"…|\\\"", piece, "\\\"\"");
  return value;
}

ConfigReader::Option ConfigReader::option(const std::string& name) const {
  const auto found = family_->options.find(name);
  require(found != family_->options.end(), "family ", family_->name, ": option ", name, " is missing");
  const OrderedJson value = parse_ordered_json_or_discard(found->second);
  if (!value.is_string() || !value.get<std::string>().starts_with("$"))
    return {text("option ", name, " of family ", family_->name), value};
  std::string called;
  for (const std::string& piece : alternatives(value.get<std::string>())) {
    if (!piece.starts_with("$"))
      return {text(called, " (the default of family ", family_->name, ")"), default_of(name, piece)};
    called = piece.substr(1);
    if (called.starts_with(newer_rope_key + ".")) called.replace(0, newer_rope_key.size(), rope_key());
    if (const std::optional<OrderedJson> given = find(called)) return {called, *given};
  }
  fail(source_, ": ", called, " is missing; the ", family_->name, " family needs it");
}

bool ConfigReader::flag(const std::string& option_name) const {
  const auto [name, value] = option(option_name);
  if (value.is_null()) return false;
  require(value.is_boolean(), source_, ": ", name, " is ", shown(value), "; it must be true or false");
  return value.get<bool>();
}

std::string ConfigReader::word(const std::string& option_name) const {
  const auto [name, value] = option(option_name);
  require(value.is_string(), source_, ": ", name, " is ", shown(value), "; it must be a string");
  return value.get<std::string>();
}

double ConfigReader::positive(const std::string& option_name) const {
  const auto [name, value] = option(option_name);
  return number_of(name, value);
}

int64_t ConfigReader::size(const std::string& option_name, int64_t most) const {
  const auto [name, value] = option(option_name);
  return size_of(name, value, most);
}

std::optional<int64_t> ConfigReader::size_if(const std::string& option_name) const {
  const auto [name, value] = option(option_name);
  if (value.is_null()) return std::nullopt;
  return size_of(name, value);
}

bool ConfigReader::is_option(const std::string& key) const {
  return std::any_of(family_->options.begin(), family_->options.end(), [&](const auto& option) {
    const OrderedJson value = parse_ordered_json_or_discard(option.second);
    if (!value.is_string()) return false;
    const std::vector<std::string> pieces = alternatives(value.get<std::string>());
    return std::any_of(pieces.begin(), pieces.end(), [&](const std::string& piece) {
      return piece == "$" + key || piece == "$sqrt(" + key + ")" || piece.starts_with("$" + key + ".");
    });
  });
}

std::vector<std::string> ConfigReader::unread_keys() const {
  const auto is_read = [&](const std::string& key) {
    return keys_of_all.contains(key) || is_option(key) || family_->only.contains(key) ||
           std::find(dropout_keys.begin(), dropout_keys.end(), key) != dropout_keys.end();
  };
  std::vector<std::string> keys;
  for (const auto& [key, value] : json_.items())
    if (!value.is_null() && !is_read(key)) keys.push_back(key);
  // The one rotary value that is an option.
  const std::string share = ".partial_rotary_factor";
  const std::optional<OrderedJson> given = find(rope_key() + share);
  if (given && !given->is_null() && !is_option(newer_rope_key + share)) keys.push_back(rope_key() + share);
  return keys;
}

}  // namespace llama_tp
