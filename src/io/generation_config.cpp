#include "io/generation_config.h"

#include "base/error.h"
#include "base/json.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_file = int64_t{1} << 20;
constexpr const char* no_id = "-1";

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
    if (!json_[key].is_number_unsigned()) refuse(key, "a whole number, 0 or more");
    return json_[key].get<int64_t>();
  }
  bool is_false(const char* key) const {
    if (has(key) && !json_[key].is_boolean()) refuse(key, "true or false");
    return has(key) && !json_[key].get<bool>();
  }
  // One id or several.
  void read_ids(const char* key, int64_t vocabulary, std::vector<int64_t>& ids, std::string& left_out) const {
    if (!has(key)) return;
    std::string unmet;
    for (const Json& id : json_[key].is_array() ? json_[key] : Json::array({json_[key]})) {
      if (!id.is_number_integer()) refuse(key, "a token id or an array of them");
      const auto value = id.get<int64_t>();  // negative for what does not fit
      if (value >= 0 && value < vocabulary)
        ids.push_back(value);
      else if (id.dump() != no_id)
        unmet += text(unmet.empty() ? "" : ", ", key, " ", id.dump());
    }
    if (!unmet.empty()) left_out = text(path_, ": left out, as outside of the vocabulary of ", vocabulary, ": ", unmet);
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
  GenerationConfig config{file.number("temperature", 1000),
                          file.number("top_p", 1),
                          file.number("min_p", 1),
                          file.number("repetition_penalty", 1000, 1e-3),
                          file.count("top_k"),
                          {},
                          {}};
  file.read_ids("eos_token_id", vocabulary, config.eos_ids, config.left_out);
  if (file.is_false("do_sample")) config.temperature = 0;
  return config;
}

}  // namespace llama_tp
