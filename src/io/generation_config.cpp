#include "io/generation_config.h"

#include "base/error.h"
#include "base/json.h"
#include "base/json_part.h"
#include "io/files.h"
#include "io/token_ids.h"

namespace llama_tp {

namespace {

constexpr int64_t largest_file = int64_t{1} << 20;
constexpr const char* advice_mend = "; correct it, or remove the file";

std::optional<double> number(const JsonPart& file, const char* key, double least, double most) {
  return file.has(key) ? std::optional(file.number(key, least, most)) : std::nullopt;
}

TokenIds ids(const JsonPart& file, const char* key, int64_t vocabulary) {
  if (!file.has(key)) return {};
  const JsonPart part = file.at(key);
  const std::optional<TokenIds> found = token_ids_of(key, part.json(), vocabulary);
  if (!found)
    part.refuse(text("is ", json_excerpt(part.json()), "; it must be a token id or a list of them", advice_mend));
  return *found;
}

}  // namespace

GenerationConfig read_generation_config(const std::string& folder, int64_t vocabulary) {
  const std::string path = folder + "/generation_config.json";
  if (!file_exists(path)) return {};
  const Json json = parse_json_object(read_text(path, largest_file), path, advice_mend);
  const auto file = JsonPart::of_file(json, path, advice_mend);
  const TokenIds ends = ids(file, "eos_token_id", vocabulary);
  GenerationConfig config{number(file, "temperature", 0, 1000),
                          number(file, "top_p", 0, 1),
                          number(file, "min_p", 0, 1),
                          number(file, "repetition_penalty", 1e-3, 1000),
                          file.has("top_k") ? std::optional(file.integer("top_k", 0)) : std::nullopt,
                          ends.ids,
                          left_out_ids(path, vocabulary, ends.unmet)};
  if (!file.flag("do_sample", true)) config.temperature = 0;
  return config;
}

}  // namespace llama_tp
