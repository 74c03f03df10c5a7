#include "base/json.h"

namespace llama_tp {

Json parse_json(std::string_view text) { return Json::parse(text); }
Json parse_json_or_discard(std::string_view text) { return Json::parse(text, nullptr, false); }
OrderedJson parse_ordered_json_or_discard(std::string_view text) { return OrderedJson::parse(text, nullptr, false); }

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

}  // namespace llama_tp
