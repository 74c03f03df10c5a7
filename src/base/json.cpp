#include "base/json.h"

#include <algorithm>

#include "base/error.h"

namespace llama_tp {

namespace {

// The first byte that nlohmann's parser would let pass and must not: a NUL, which it takes for the end of the text, or
// one that opens a container too many. npos: there is none.
size_t first_refused(std::string_view text) {
  int64_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    if (c == '\0') return i;
    if (c == '"') in_string = !in_string;
    if (in_string && c == '\\') i++;  // what is escaped neither ends the string nor begins another escape
    if (in_string) continue;
    if ((c == '[' || c == '{') && ++depth > deepest_json) return i;
    if (c == ']' || c == '}') depth--;
  }
  return std::string_view::npos;
}

// Of "… number overflow parsing '1e400'".
std::string number_in(const Json::out_of_range& error) {
  constexpr size_t longest = 40;
  const std::string said = error.what();
  const size_t begin = said.find('\'') + 1, length = said.rfind('\'') - begin;
  return said.substr(begin, std::min(length, longest)) + (length > longest ? " …" : "");
}

template <class AnyJson>
AnyJson parse(std::string_view text, std::string_view mend = "") {
  if (const size_t at = first_refused(text); at != std::string_view::npos) {
    if (text[at] == '\0') fail("is not JSON: byte ", at + 1, " is NUL", mend);
    fail("has more than ", deepest_json, " containers in each other from byte ", at + 1, " on; nest them less deeply");
  }
  try {
    return AnyJson::parse(text);
  } catch (const Json::parse_error& error) {
    fail("is not JSON from byte ", error.byte, " on", mend);
  } catch (const Json::out_of_range& error) {
    fail("has a number that is too large, ", number_in(error), "; write it as a text in quotes, or leave it out");
  }
}

}  // namespace

Json parse_json(std::string_view text, std::string_view mend) { return parse<Json>(text, mend); }
OrderedJson parse_ordered_json(std::string_view text) { return parse<OrderedJson>(text); }

Json parse_json_or_discard(std::string_view text, const Json::parser_callback_t& watch) {
  if (first_refused(text) != std::string_view::npos) return Json::value_t::discarded;
  return Json::parse(text, watch, false);
}
OrderedJson parse_ordered_json_or_discard(std::string_view text) {
  if (first_refused(text) != std::string_view::npos) return OrderedJson::value_t::discarded;
  return OrderedJson::parse(text, nullptr, false);
}

void parse_json_events(std::string_view text, Json::json_sax_t& receiver) {
  constexpr int syntax_error = 101;  // nlohmann's number
  const size_t at = first_refused(text);
  const bool is_whole = Json::sax_parse(text.substr(0, at), &receiver);
  if (is_whole && at != std::string_view::npos)
    receiver.parse_error(at + 1, "", Json::parse_error::create(syntax_error, at + 1, "", nullptr));
}

std::string json_text(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}
std::string json_text(const OrderedJson& value, int indent) {
  return value.dump(indent, ' ', false, OrderedJson::error_handler_t::replace);
}

std::string json_text_in_ascii(const Json& value) { return value.dump(-1, ' ', true, Json::error_handler_t::replace); }
std::string json_text_in_ascii(const OrderedJson& value) {
  return value.dump(-1, ' ', true, OrderedJson::error_handler_t::replace);
}

std::string json_excerpt(const Json& value) {
  constexpr size_t longest = 40;
  const std::string whole = json_text_in_ascii(value);
  return whole.size() <= longest ? whole : whole.substr(0, longest) + " …";
}

std::optional<JsonDifference> first_difference(const Json& first, const Json& second) {
  const Json changes = Json::diff(first, second);
  if (changes.empty()) return std::nullopt;
  const auto path = changes[0]["path"].get<std::string>().substr(1);
  const std::string key = path.substr(0, path.find('/'));
  const auto shown = [&](const Json& object) { return object.contains(key) ? json_text(object[key]) : "absent"; };
  return JsonDifference{key, shown(first), shown(second)};
}

}  // namespace llama_tp
