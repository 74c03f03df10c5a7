// One line of a .jsonl data file, parsed, checked and tokenized.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "io/dataset.h"

namespace llama_tp {

struct JsonLine {
  enum class Kind { blank, text, messages, prompt, input_ids };

  Kind kind = Kind::blank;
  std::vector<int32_t> tokens;
  std::vector<int32_t> labels;  // empty where the line has none
};

// The field that a line of this kind has.
std::string_view name_of(JsonLine::Kind kind);

// The object that a line holds. Errors: bytes that are not UTF-8, by their number; those of parse_json; another value
// than an object, which has `content` in it.
nlohmann::json parse_object(std::string_view line, std::string_view content);

// Errors: whatever is wrong with the line, without file and number.
JsonLine parse_json_line(std::string_view line, const DatasetOptions& options);

// Tokens of a document. Errors: no tokenizer; an id outside of the vocabulary.
std::vector<int32_t> tokenize_document(std::string_view document, const DatasetOptions& options);

}  // namespace llama_tp
