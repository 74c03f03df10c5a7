#include "io/generation_config.h"

#include "base/error.h"
#include "base/json.h"
#include "io/files.h"
#include "io/token_ids.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_file = int64_t{1} << 20;

class Reader {
 public:
  explicit Reader(std::string path)
      : path_(std::move(path)), json_(parse_json_or_discard(read_text(path_, largest_file))) {
    require(json_.is_object(), path_, ": is not a JSON object; write it again, or remove it");
  }

  std::optional<double> number(const char* key, double most, double least = 0) const {
    if (!has(key)) return {};
    const Json& value = json_[key];
    if (!value.is_number() || value.get<double>() < least || value.get<double>() > most)
      refuse(key, text("a number between ", least, " and ", most));
    return value.get<double>();
  }
  std::optional<int64_t> count(const char* key) const {
    if (!has(key)) return {};
    const Json& value = json_[key];
    if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX)
      refuse(key, text("a whole number between 0 and ", INT64_MAX));
    return value.get<int64_t>();
  }
  bool is_false(const char* key) const {
    if (has(key) && !json_[key].is_boolean()) refuse(key, "true or false");
    return has(key) && !json_[key].get<bool>();
  }
  TokenIds ids(const char* key, int64_t vocabulary) const {
    if (!has(key)) return {};
    const std::optional<TokenIds> found = token_ids_of(key, json_[key], vocabulary);
    if (!found) refuse(key, "a token id or an array of them");
    return *found;
  }

 private:
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  [[noreturn]] void refuse(const char* key, const std::string& needed) const {
    fail(path_, ": ", key, " is ", json_text_in_ascii(json_[key]), "; ", needed, " is needed");
  }

  std::string path_;
  Json json_;
};

}  // namespace

GenerationConfig read_generation_config(const std::string& folder, int64_t vocabulary) {
  const std::string path = folder + "/generation_config.json";
  if (!file_exists(path)) return {};
  const Reader file(path);
  const TokenIds ends = file.ids("eos_token_id", vocabulary);
  GenerationConfig config{file.number("temperature", 1000),
                          file.number("top_p", 1),
                          file.number("min_p", 1),
                          file.number("repetition_penalty", 1000, 1e-3),
                          file.count("top_k"),
                          ends.ids,
                          left_out_ids(path, vocabulary, ends.unmet)};
  if (file.is_false("do_sample")) config.temperature = 0;
  return config;
}

}  // namespace llama_tp
