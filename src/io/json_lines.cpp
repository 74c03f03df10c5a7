#include "io/json_lines.h"

#include <string>

#include "base/error.h"
#include "base/json.h"
#include "io/utf8.h"

namespace llama_tp {

namespace {

using nlohmann::json;

constexpr std::string_view json_space = " \t\r\n";
// A value in a message is shown up to here.
constexpr size_t longest_quote = 40;

std::string quoted(const json& value) {
  const std::string dumped = json_text_in_ascii(value);
  return dumped.size() <= longest_quote ? dumped : dumped.substr(0, longest_quote) + " …";
}

json parse_object(std::string_view line) {
  if (const int64_t bad = first_bad_utf8(line); bad >= 0)
    fail("byte ", bad + 1, " is not UTF-8; convert the file to UTF-8");
  json object;
  try {
    object = parse_json(line);
  } catch (const json::parse_error& error) {
    fail("is not JSON from byte ", error.byte, " on; the line is cut or damaged: each line holds one whole object");
  } catch (const json::exception& error) {
    fail("is not JSON: ", error.what());
  }
  require(object.is_object(), "holds ", quoted(object), "; an object is needed, with text or input_ids");
  return object;
}

// The integers of an array. Errors: another type; a value that is neither an id nor, where allowed, ignored_label.
std::vector<int32_t> read_ids(const json& object, const char* field, int64_t vocabulary, bool ignored_allowed) {
  const json& array = object.at(field);
  require(array.is_array(), field, " is ", quoted(array), "; an array of ids is needed");
  std::vector<int32_t> ids;
  ids.reserve(array.size());
  for (const json& value : array) {
    const bool whole = value.is_number_integer();
    const bool in_range = whole && (!value.is_number_unsigned() || value.get<uint64_t>() <= INT64_MAX);
    const int64_t id = in_range ? value.get<int64_t>() : -1;
    if (whole && ((id >= 0 && id < vocabulary) || (ignored_allowed && id == ignored_label))) {
      ids.push_back(static_cast<int32_t>(id));
      continue;
    }
    fail(field, "[", ids.size(), "] is ", quoted(value), "; ",
         whole ? "the vocabulary has" : "an integer is needed:", " ids 0 to ", vocabulary - 1,
         ignored_allowed ? text(" and ", ignored_label, " for what is not to be learned") : "");
  }
  return ids;
}

}  // namespace

std::vector<int32_t> tokenize_document(std::string_view document, const DatasetOptions& options) {
  require(static_cast<bool>(options.tokenize),
          "has text, and there is no tokenizer; give --tokenizer, or data with input_ids");
  std::vector<int32_t> ids = options.tokenize(document);
  for (const int32_t id : ids)
    require(id >= 0 && id < options.vocabulary, "the tokenizer gives id ", id, ", the model's vocabulary has ids 0 to ",
            options.vocabulary - 1, "; give the model's own tokenizer");
  return ids;
}

JsonLine parse_json_line(std::string_view line, const DatasetOptions& options) {
  JsonLine parsed;
  if (line.find_first_not_of(json_space) == std::string_view::npos) return parsed;
  const json object = parse_object(line);
  const bool has_text = object.contains("text"), has_ids = object.contains("input_ids");
  require(has_text || has_ids, "has neither text nor input_ids");
  require(!has_text || !has_ids, "has both text and input_ids; keep one of the two");
  if (has_text) {
    parsed.kind = JsonLine::Kind::text;
    require(object.at("text").is_string(), "text is ", quoted(object.at("text")), "; a string is needed");
    parsed.tokens = tokenize_document(object.at("text").get_ref<const std::string&>(), options);
    return parsed;
  }
  parsed.kind = JsonLine::Kind::input_ids;
  parsed.tokens = read_ids(object, "input_ids", options.vocabulary, false);
  require(!parsed.tokens.empty(), "input_ids is empty; leave the line out");
  if (!object.contains("labels")) return parsed;
  parsed.labels = read_ids(object, "labels", options.vocabulary, true);
  require(parsed.labels.size() == parsed.tokens.size(), "has ", parsed.labels.size(), " labels for ",
          parsed.tokens.size(), " input_ids; there must be one for each");
  return parsed;
}

}  // namespace llama_tp
