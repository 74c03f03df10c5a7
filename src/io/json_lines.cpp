#include "io/json_lines.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "io/read_messages.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/utf8.h"

namespace llama_tp {

namespace {

using nlohmann::json;

constexpr std::string_view json_space = " \t\r\n";

// In the order of Kind, behind blank.
constexpr std::array<std::string_view, 4> kind_names{"text", "messages", "prompt", "input_ids"};
constexpr std::string_view kind_list = "text, messages, prompt and completion, or input_ids";
constexpr std::string_view no_tokenizer =
    ", and there is no tokenizer; put it into the model's folder (train and inspect take --tokenizer, too), or give "
    "data with input_ids";

// The integers of an array. Errors: another type; a value that is neither an id nor, where allowed, ignored_label.
std::vector<int32_t> read_ids(const json& object, const char* field, int64_t vocabulary, bool ignored_allowed) {
  const json& array = object.at(field);
  if (!array.is_array()) fail(field, " is ", json_excerpt(array), "; an array of ids is needed");
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
    fail(field, "[", ids.size(), "] is ", json_excerpt(value), "; ",
         whole ? "the vocabulary has" : "an integer is needed:", " ids 0 to ", vocabulary - 1,
         ignored_allowed ? text(" and ", ignored_label, " for what is not to be learned") : "");
  }
  return ids;
}

// Padding at the end that is not learned is seen by nothing; any other would be taken for text.
void check_attention_mask(const json& mask, const JsonLine& line) {
  if (!mask.is_array() || mask.size() != line.tokens.size())
    fail("attention_mask is ", json_excerpt(mask), "; an array is needed, with a number for each of the ",
         line.tokens.size(), " input_ids");
  bool padding = false;
  for (size_t i = 0; i < mask.size(); i++) {
    const bool seen = mask[i] == 1 || mask[i] == true;
    if (!seen && mask[i] != 0 && mask[i] != false)
      fail("attention_mask[", i, "] is ", json_excerpt(mask[i]), "; 1 (seen) or 0 (padding) is needed");
    padding = padding || !seen;
    const bool unlearned = !line.labels.empty() && line.labels[i] == ignored_label;
    require(!padding || (!seen && unlearned), "attention_mask has a 0 where input_ids[", i,
            "] would be taken for text; leave padding out, or put it at the end with labels of ", ignored_label);
  }
}

// Errors: nothing is learned of what block_size leaves.
void check_learned(const LabeledTokens& sequence, int64_t block_size) {
  const std::span<const int32_t> tokens(sequence.tokens), labels(sequence.labels);
  const size_t kept = std::min(tokens.size(), static_cast<size_t>(block_size));
  if (count_targets({tokens.first(kept), labels.first(kept)}) > 0) return;
  const bool is_cut = count_targets({tokens, labels}) > 0;
  fail("has nothing to learn",
       is_cut ? text(" within --block-size ", block_size, ": the answer begins behind it; raise it")
              : "; give it an answer",
       ", or leave the line out");
}

LabeledTokens tokenize_conversation(const json& object, const DatasetOptions& options) {
  require(static_cast<bool>(options.tokenize_messages), "has messages", no_tokenizer);
  return options.tokenize_messages(read_messages(object));
}

LabeledTokens tokenize_completion(const json& object, const DatasetOptions& options) {
  require(static_cast<bool>(options.tokenize_completion), "has prompt and completion", no_tokenizer);
  const std::string &prompt = string_at(object, "prompt"), &completion = string_at(object, "completion");
  require(!completion.empty(), "completion is empty; give it text, or leave the line out");
  return options.tokenize_completion(prompt, completion);
}

// Errors: none of the kinds, or more than one.
JsonLine::Kind kind_of(const json& object) {
  JsonLine::Kind kind = JsonLine::Kind::blank;
  for (size_t i = 0; i < kind_names.size(); i++) {
    if (!object.contains(kind_names[i])) continue;
    const auto other = static_cast<JsonLine::Kind>(i + 1);
    require(kind == JsonLine::Kind::blank, "has both ", name_of(kind), " and ", name_of(other),
            "; keep one of the two");
    kind = other;
  }
  require(kind != JsonLine::Kind::blank, "has no ", kind_list, "; each line needs one of them");
  return kind;
}

}  // namespace

std::string_view name_of(JsonLine::Kind kind) {
  return kind == JsonLine::Kind::blank ? "" : kind_names[static_cast<size_t>(kind) - 1];
}

// Parts of messages are made where one is printed: a good line is not written out again.
json parse_object(std::string_view line, std::string_view content) {
  if (const size_t bad = utf8::first_invalid(line); bad < line.size())
    fail("byte ", bad + 1, " is not UTF-8; convert the file to UTF-8");
  const json object = parse_json(line, "; the line is cut or damaged: each line holds one whole object");
  if (!object.is_object()) fail("holds ", json_excerpt(object), "; an object is needed, with ", content, " in it");
  return object;
}

std::vector<int32_t> tokenize_document(std::string_view document, const DatasetOptions& options) {
  require(static_cast<bool>(options.tokenize), "has text", no_tokenizer);
  std::vector<int32_t> ids = options.tokenize(document);
  check_ids(ids, options.vocabulary);
  return ids;
}

JsonLine parse_json_line(std::string_view line, const DatasetOptions& options) {
  JsonLine parsed;
  if (line.find_first_not_of(json_space) == std::string_view::npos) return parsed;
  const json object = parse_object(line, kind_list);
  parsed.kind = kind_of(object);
  if (parsed.kind == JsonLine::Kind::text) {
    parsed.tokens = tokenize_document(string_at(object, "text"), options);
    return parsed;
  }
  if (parsed.kind == JsonLine::Kind::input_ids) {
    parsed.tokens = read_ids(object, "input_ids", options.vocabulary, false);
    require(!parsed.tokens.empty(), "input_ids is empty; leave the line out");
    if (object.contains("labels")) {
      parsed.labels = read_ids(object, "labels", options.vocabulary, true);
      require(parsed.labels.size() == parsed.tokens.size(), "has ", parsed.labels.size(), " labels for ",
              parsed.tokens.size(), " input_ids; there must be one for each");
    }
    if (object.contains("attention_mask")) check_attention_mask(object["attention_mask"], parsed);
  } else {
    LabeledTokens labeled = parsed.kind == JsonLine::Kind::messages ? tokenize_conversation(object, options)
                                                                    : tokenize_completion(object, options);
    check_ids(labeled.tokens, options.vocabulary);
    check_learned(labeled, options.block_size);
    parsed.tokens = std::move(labeled.tokens);
    parsed.labels = std::move(labeled.labels);
  }
  require(options.truncation || static_cast<int64_t>(parsed.tokens.size()) <= options.block_size, "has ",
          parsed.tokens.size(), " tokens, more than --block-size ", options.block_size,
          ", and --truncation is off; raise it, or leave the line out");
  return parsed;
}

}  // namespace llama_tp
