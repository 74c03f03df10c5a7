// One part of a tokenizer's JSON (a normalizer, a decoder, …) together with where it stands, so that whatever is wrong
// with it is reported as "FILE: pre_tokenizer.pretokenizers[1]: what, why, the mend".
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

class Component {
 public:
  // `node` must outlive this.
  Component(const nlohmann::json& node, std::string where) : node_(&node), where_(std::move(where)) {}
  // All that a file holds.
  static Component of_file(const nlohmann::json& node, std::string path);

  const std::string& where() const { return where_; }
  bool is_null() const;
  bool is_text() const;
  bool has(std::string_view key) const;  // there and not null

  // The values of an object. Errors: a key that is missing (where there is no fallback) or of the wrong type.
  Component at(std::string_view key) const;  // absent reads as null
  std::vector<Component> list(std::string_view key) const;
  std::string text(std::string_view key) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  bool flag(std::string_view key, bool fallback) const;
  int64_t integer(std::string_view key) const;
  bool is_zero(std::string_view key) const;  // the number 0
  std::string type() const { return text("type"); }

  // The value itself. Errors: of the wrong type.
  std::vector<Component> items() const;
  std::string as_text() const;
  int64_t as_integer() const;

  [[noreturn]] void refuse(std::string_view what) const;
  // type() is none of those that this program knows.
  [[noreturn]] void refuse_type(std::string_view known) const;

 private:
  const nlohmann::json* find(std::string_view key) const;
  const nlohmann::json& need(std::string_view key) const;
  std::string place(std::string_view key) const;

  const nlohmann::json* node_;
  std::string where_;
  bool is_file_ = false;
};

// A file of JSON, such as tokenizer_config.json. Errors: cannot be read, is not JSON, is not an object.
nlohmann::json read_json_object(const std::string& path);

}  // namespace llama_tp
