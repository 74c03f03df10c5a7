#include "base/json_part.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"

namespace llama_tp {

namespace {

const Json null_node;

}  // namespace

JsonPart JsonPart::of_file(const Json& node, std::string path, const char* mend) {
  JsonPart part(node, std::move(path), mend);
  part.is_file_ = true;
  return part;
}

bool JsonPart::is_null() const { return node_->is_null(); }
bool JsonPart::is_text() const { return node_->is_string(); }
bool JsonPart::has(std::string_view key) const { return find(key) != nullptr; }

JsonPart JsonPart::at(std::string_view key) const {
  const Json* found = find(key);
  return JsonPart(found ? *found : null_node, place(key), mend_);
}

std::vector<JsonPart> JsonPart::list(std::string_view key) const { return need(key).items(); }
std::string JsonPart::text(std::string_view key) const { return need(key).as_text(); }

std::string JsonPart::text(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : std::string(fallback);
}

bool JsonPart::flag(std::string_view key) const {
  const JsonPart part = need(key);
  part.check(part.node_->is_boolean(), "true or false");
  return part.node_->get<bool>();
}

bool JsonPart::flag(std::string_view key, bool fallback) const { return has(key) ? flag(key) : fallback; }

int64_t JsonPart::integer(std::string_view key, int64_t least, int64_t most) const {
  return need(key).as_integer(least, most);
}

double JsonPart::number(std::string_view key, double least, double most) const {
  const JsonPart part = need(key);
  const double value = part.node_->is_number() ? part.node_->get<double>() : NAN;
  part.check(value >= least && value <= most, llama_tp::text("a number from ", least, " to ", most));
  return value;
}

double JsonPart::positive(std::string_view key) const {
  const JsonPart part = need(key);
  const double value = part.node_->is_number() ? part.node_->get<double>() : NAN;
  part.check(value > 0 && value < 1e18, "a positive number below 1e18");
  return value;
}

bool JsonPart::is_zero(std::string_view key) const {
  const Json* found = find(key);
  return found && found->is_number() && found->get<double>() == 0;
}

std::vector<JsonPart> JsonPart::items() const {
  check(node_->is_array(), "a list");
  std::vector<JsonPart> result;
  for (size_t i = 0; i < node_->size(); ++i)
    result.emplace_back((*node_)[i], llama_tp::text(where_, "[", i, "]"), mend_);
  return result;
}

std::vector<std::pair<std::string, JsonPart>> JsonPart::entries() const {
  check(node_->is_object(), "an object");
  std::vector<std::pair<std::string, JsonPart>> result;
  for (const auto& [key, value] : node_->items()) result.emplace_back(key, JsonPart(value, place(key), mend_));
  return result;
}

std::string JsonPart::as_text() const {
  check(node_->is_string(), "a string");
  return node_->get<std::string>();
}

int64_t JsonPart::as_integer(int64_t least, int64_t most) const {
  check(node_->is_number_integer(), "an integer");
  // An unsigned value past the signed range would wrap to a negative one.
  const bool wraps = node_->is_number_unsigned() && node_->get<uint64_t>() > INT64_MAX;
  const auto value = node_->get<int64_t>();
  check(!wraps && value >= least && value <= most, llama_tp::text("an integer from ", least, " to ", most));
  return value;
}

void JsonPart::check_keys(std::initializer_list<std::string_view> known) const {
  for (const auto& [key, value] : entries())
    require(std::find(known.begin(), known.end(), key) != known.end(), where_, ": has no use for \"", key, "\"", mend_);
}

void JsonPart::refuse(std::string_view what) const { fail(where_, ": ", what); }

const Json* JsonPart::find(std::string_view key) const {
  check(node_->is_object(), "an object");
  const auto found = node_->find(key);
  return found == node_->end() || found->is_null() ? nullptr : &*found;
}

JsonPart JsonPart::need(std::string_view key) const {
  const Json* found = find(key);
  require(found != nullptr, where_, ": \"", key, "\" is ", node_->contains(key) ? "null" : "missing", mend_);
  return JsonPart(*found, place(key), mend_);
}

std::string JsonPart::place(std::string_view key) const { return llama_tp::text(where_, is_file_ ? ": " : ".", key); }

void JsonPart::check(bool fits, std::string_view needed) const {
  if (!fits) fail(where_, ": is ", json_excerpt(*node_), "; it must be ", needed, mend_);
}

Json parse_json_object(std::string_view bytes, const std::string& path, const char* mend) {
  Json result;
  try {
    result = parse_json(bytes, mend);
  } catch (const Error& error) {
    fail(path, ": ", error.what());
  }
  require(result.is_object(), path, ": holds JSON of type ", result.type_name(), "; it must be an object", mend);
  return result;
}

}  // namespace llama_tp
