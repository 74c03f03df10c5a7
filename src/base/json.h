// JSON by nlohmann's library. Its parser and writer are templates that take seconds to compile, so they are compiled
// here, once, and called by these names.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace llama_tp {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keeps its keys in the order of insertion

// Errors: nlohmann's exceptions, which tell the byte.
Json parse_json(std::string_view text);
// What is not JSON is_discarded().
Json parse_json_or_discard(std::string_view text);
OrderedJson parse_ordered_json_or_discard(std::string_view text);

// indent: spaces a level; -1: all on one line. What is not UTF-8, as a path need not be, is replaced by U+FFFD; a file
// that is read again has none, for its texts come from JSON or are refused by whoever writes it.
std::string json_text(const Json& value, int indent = -1);
std::string json_text(const OrderedJson& value, int indent = -1);
// In ASCII, for a message: other characters as \uXXXX, broken ones replaced.
std::string json_text_in_ascii(const Json& value);
std::string json_text_in_ascii(const OrderedJson& value);

}  // namespace llama_tp
