// JSON by nlohmann's library. Its parser and writer are templates that take seconds to compile, so they are compiled
// here, once, and called by these names.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace llama_tp {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keeps its keys in the order of insertion

// The most containers in each other: values are copied, written and compared by recursion, which takes stack for each.
constexpr int64_t deepest_json = 512;

// Errors, without file: what is not JSON, with the byte, and behind it `mend`; containers nested more deeply; a number
// that no double holds.
Json parse_json(std::string_view text, std::string_view mend = "");
OrderedJson parse_ordered_json(std::string_view text);
// What is either is_discarded(). watch: is told the parser's events, and may throw.
Json parse_json_or_discard(std::string_view text, const Json::parser_callback_t& watch = nullptr);
OrderedJson parse_ordered_json_or_discard(std::string_view text);
// The receiver's parse_error is told of either.
void parse_json_events(std::string_view text, Json::json_sax_t& receiver);

// indent: spaces a level; -1: all on one line. What is not UTF-8, as a path need not be, is replaced by U+FFFD; a file
// that is read again has none, for its texts come from JSON or are refused by whoever writes it.
std::string json_text(const Json& value, int indent = -1);
std::string json_text(const OrderedJson& value, int indent = -1);
// In ASCII, for a message: other characters as \uXXXX, broken ones replaced.
std::string json_text_in_ascii(const Json& value);
std::string json_text_in_ascii(const OrderedJson& value);
// Its beginning where it is long.
std::string json_excerpt(const Json& value);

// A key of two objects with its value in each, as text, or "absent".
struct JsonDifference {
  std::string key, first, second;
};
// The first key whose values differ; none where the objects are the same.
std::optional<JsonDifference> first_difference(const Json& first, const Json& second);

}  // namespace llama_tp
