#include "io/tokenizer/component.h"

#include "base/error.h"
#include "base/json.h"
#include "io/files.h"

namespace llama_tp {

using nlohmann::json;

namespace {

const json null_node;

}  // namespace

Component Component::of_file(const json& node, std::string path) {
  Component component(node, std::move(path));
  component.is_file_ = true;
  return component;
}

bool Component::is_null() const { return node_->is_null(); }
bool Component::is_text() const { return node_->is_string(); }
bool Component::has(std::string_view key) const { return find(key) != nullptr; }

Component Component::at(std::string_view key) const {
  const json* found = find(key);
  return Component(found ? *found : null_node, place(key));
}

std::vector<Component> Component::list(std::string_view key) const { return Component(need(key), place(key)).items(); }
std::string Component::text(std::string_view key) const { return Component(need(key), place(key)).as_text(); }
int64_t Component::integer(std::string_view key) const { return Component(need(key), place(key)).as_integer(); }

std::string Component::text(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : std::string(fallback);
}

bool Component::flag(std::string_view key, bool fallback) const {
  const json* found = find(key);
  if (!found) return fallback;
  require(found->is_boolean(), place(key), ": is of type ", found->type_name(), "; it must be true or false");
  return found->get<bool>();
}

bool Component::is_zero(std::string_view key) const {
  const json* found = find(key);
  return found && found->is_number() && found->get<double>() == 0;
}

std::vector<Component> Component::items() const {
  require(node_->is_array(), where_, ": is of type ", node_->type_name(), "; it must be a list");
  std::vector<Component> result;
  for (size_t i = 0; i < node_->size(); ++i) result.emplace_back((*node_)[i], llama_tp::text(where_, "[", i, "]"));
  return result;
}

std::string Component::as_text() const {
  require(node_->is_string(), where_, ": is of type ", node_->type_name(), "; it must be a string");
  return node_->get<std::string>();
}

int64_t Component::as_integer() const {
  require(node_->is_number_integer(), where_, ": is of type ", node_->type_name(), "; it must be an integer");
  // An unsigned value past the signed range would wrap to a negative one.
  require(!node_->is_number_unsigned() || node_->get<uint64_t>() <= INT64_MAX, where_, ": ", json_text(*node_),
          " is out of range");
  return node_->get<int64_t>();
}

void Component::refuse(std::string_view what) const { fail(where_, ": ", what); }

void Component::refuse_type(std::string_view known) const {
  fail(where_, ": type \"", type(), "\" is not supported; this program knows ", known,
       "; convert the tokenizer to these, or give its tokenizer.model");
}

const json* Component::find(std::string_view key) const {
  require(node_->is_object(), where_, ": is of type ", node_->type_name(), "; it must be an object");
  const auto found = node_->find(key);
  return found == node_->end() || found->is_null() ? nullptr : &*found;
}

const json& Component::need(std::string_view key) const {
  const json* found = find(key);
  require(found != nullptr, where_, ": \"", key, "\" is missing; the file is damaged or of another kind");
  return *found;
}

std::string Component::place(std::string_view key) const { return llama_tp::text(where_, is_file_ ? ": " : ".", key); }

json read_json_object(const std::string& path) {
  const std::string bytes = read_text(path);
  json result;
  try {
    result = parse_json(bytes, "; the file is cut or damaged, fetch it again");
  } catch (const Error& error) {
    fail(path, ": ", error.what());
  }
  require(result.is_object(), path, ": holds JSON of type ", result.type_name(), "; it must be an object");
  return result;
}

}  // namespace llama_tp
