// One part of a file of JSON together with where it stands, so that whatever is wrong with it is reported as
// "FILE: pre_tokenizer.pretokenizers[1]: what, why, the mend".
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace llama_tp {

class JsonPart {
 public:
  static constexpr const char* damaged = "; the file is damaged or of another kind";

  // `node` must outlive this. mend: behind each error of a value that is missing or not what it must be.
  JsonPart(const nlohmann::json& node, std::string where, const char* mend = damaged)
      : node_(&node), where_(std::move(where)), mend_(mend) {}
  // All that a file holds.
  static JsonPart of_file(const nlohmann::json& node, std::string path, const char* mend = damaged);

  const std::string& where() const { return where_; }
  const nlohmann::json& json() const { return *node_; }
  bool is_null() const;
  bool is_text() const;
  bool has(std::string_view key) const;  // there and not null

  // The values of an object. Errors: a key that is missing (where there is no fallback), of the wrong type or out of range.
  JsonPart at(std::string_view key) const;  // absent reads as null
  std::vector<JsonPart> list(std::string_view key) const;
  std::string text(std::string_view key) const;
  std::string text(std::string_view key, std::string_view fallback) const;
  bool flag(std::string_view key) const;
  bool flag(std::string_view key, bool fallback) const;
  int64_t integer(std::string_view key, int64_t least = INT64_MIN, int64_t most = INT64_MAX) const;
  double number(std::string_view key, double least, double most) const;
  double positive(std::string_view key) const;  // and below 1e18, so that it fits into 64 bits
  bool is_zero(std::string_view key) const;     // the number 0

  // The value itself. Errors: of the wrong type.
  std::vector<JsonPart> items() const;
  std::vector<std::pair<std::string, JsonPart>> entries() const;  // of an object, by their keys
  std::string as_text() const;
  int64_t as_integer(int64_t least = INT64_MIN, int64_t most = INT64_MAX) const;

  // Errors: no object; a key that nothing reads, such as a misspelt one.
  void check_keys(std::initializer_list<std::string_view> known) const;

  [[noreturn]] void refuse(std::string_view what) const;

 private:
  const nlohmann::json* find(std::string_view key) const;
  JsonPart need(std::string_view key) const;
  std::string place(std::string_view key) const;
  void check(bool fits, std::string_view needed) const;

  const nlohmann::json* node_;
  std::string where_;
  const char* mend_;
  bool is_file_ = false;
};

// Of a file such as tokenizer_config.json. Errors: is not JSON, is not an object.
nlohmann::json parse_json_object(std::string_view bytes, const std::string& path, const char* mend);

}  // namespace llama_tp
