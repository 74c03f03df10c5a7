// config.json as it is read: every value checked, with the name of the file and the key in each complaint, and the
// family's options resolved against it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "io/chat/chat_template.h"
#include "model/families.h"

namespace llama_tp {

// A value for a complaint, however long it is.
std::string shown(const OrderedJson& value);

// The key of a checkpoint's config.json that keeps the family file of its run.
inline constexpr const char* family_key = "llama_tp_family";

// The family that a config.json keeps; null where it keeps none. Errors: parse_family's.
FamilyPointer family_kept_in(const OrderedJson& config, const std::string& source);

// The chat template whose name a config.json keeps, if it keeps one. Errors: no string.
ChatTemplateChoice chat_template_kept_in(const OrderedJson& config, const std::string& source);

// Keys that ask for dropout, which no operation here has.
inline constexpr std::array dropout_keys{"attention_dropout", "resid_pdrop",    "embd_pdrop",
                                         "residual_dropout",  "hidden_dropout", "embedding_dropout"};

class ConfigReader {
 public:
  static constexpr int64_t largest_size = int64_t{1} << 24;  // of any one dimension; beyond it a slip of the pen

  // family: null: the one that the file keeps, else that model_type names. Errors: no JSON object, no model_type, an
  // unknown one.
  ConfigReader(const std::filesystem::path& file, FamilyPointer family);

  const std::string& source() const { return source_; }
  const FamilyPointer& family() const { return family_; }
  ChatTemplateChoice chat_template() const { return chat_template_kept_in(json_, source_); }
  bool contains(const char* key) const { return json_.contains(key); }  // null, too
  bool has(const char* key) const { return contains(key) && !json_[key].is_null(); }
  const OrderedJson& operator[](const char* key) const { return json_[key]; }
  // The object whose rotary values count: of both, as of a config.json into which somebody wrote the older, transformers
  // takes rope_scaling, too, and drops all that the other holds.
  const char* rope_key() const;

  // Errors of these: a value missing where it is needed, of another type, out of bounds.
  int64_t size_of(const std::string& name, const OrderedJson& value, int64_t most = largest_size) const;
  double number_of(const std::string& name, const OrderedJson& value) const;
  // None for one outside of the vocabulary.
  std::optional<int64_t> token_id(const std::string& name, const OrderedJson& value, int64_t vocabulary) const;

  // An option of the family, and for messages the name by which config.json calls it, or that it is the family's own.
  struct Option {
    std::string name;
    OrderedJson value;
  };
  Option option(const std::string& name) const;
  bool flag(const std::string& option_name) const;  // null is false, as in Python
  std::string word(const std::string& option_name) const;
  double positive(const std::string& option_name) const;
  int64_t size(const std::string& option_name, int64_t most = largest_size) const;
  // Where the option is not null.
  std::optional<int64_t> size_if(const std::string& option_name) const;

  // Of the keys that say something of the mathematics, those that neither an option of the family nor anything else
  // takes.
  std::vector<std::string> unread_keys() const;

 private:
  // Does an option take "key", "object.key" or "sqrt(key)"?
  bool is_option(const std::string& key) const;
  OrderedJson default_of(const std::string& option_name, const std::string& piece) const;
  // The value of "key", "object.key" or "sqrt(key)", which may be null; none where it is missing.
  std::optional<OrderedJson> find(const std::string& key) const;

  std::string source_;
  OrderedJson json_;
  FamilyPointer family_;
};

}  // namespace llama_tp
