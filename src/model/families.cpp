#include "model/families.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace llama_tp {

namespace {

constexpr std::pair<const char*, const char*> family_files[] = {
#include "families.inc"
};

constexpr std::array<std::string_view, 14> part_names{"embedding", "attention_norm", "q",          "k",        "v",
                                                      "o",         "q_norm",         "k_norm",     "mlp_norm", "gate",
                                                      "up",        "down",           "final_norm", "head"};

Part part_named(const std::string& name) {
  const auto found = std::find(part_names.begin(), part_names.end(), name);
  require(found != part_names.end(), "family: a module's part is ", name, ", which no block has");
  return static_cast<Part>(found - part_names.begin());
}

// Puts the module where those were that it replaces, or at the end.
void place_module(const Json& json, std::vector<Module>& modules) {
  Module module;
  const Json& part = json.at("part");
  for (const Json& name : part.is_array() ? part : Json::array({part})) module.parts.push_back(part_named(name));
  const auto replaced = [&](const Module& other) {
    return std::any_of(module.parts.begin(), module.parts.end(), [&](Part mine) {
      return std::find(other.parts.begin(), other.parts.end(), mine) != other.parts.end();
    });
  };
  const auto place = std::find_if(modules.begin(), modules.end(), replaced) - modules.begin();
  std::erase_if(modules, replaced);
  if (json.at("name").is_null()) return;
  module.name = json.at("name");
  module.style = json.at("style");
  modules.insert(modules.begin() + place, module);
}

Family read_family(const char* name, const char* content);

Family family_named(const std::string& wanted) {
  for (const auto& [name, content] : family_files)
    if (name == wanted) return read_family(name, content);
  fail("family: like \"", wanted, "\", which is no family");
}

Family read_family(const char* name, const char* content) {
  const Json json = parse_json_or_discard(content);
  require(!json.is_discarded(), "family ", name, ": not JSON");
  Family family = json.contains("like") ? family_named(json.at("like")) : Family{};
  family.name = json.at("family");
  family.model_types = json.at("model_types");
  if (json.contains("modules"))
    for (const Json& module : json.at("modules")) place_module(module, family.modules);
  if (json.contains("options"))
    for (const auto& [option, value] : json.at("options").items()) family.options[option] = json_text(value);
  return family;
}

}  // namespace

std::string_view name_of(Part part) { return part_names[static_cast<size_t>(part)]; }

const std::vector<FamilyPointer>& families() {
  static const std::vector<FamilyPointer> all = [] {
    std::vector<FamilyPointer> read;
    for (const auto& [name, content] : family_files)
      read.push_back(std::make_shared<const Family>(read_family(name, content)));
    return read;
  }();
  return all;
}

FamilyPointer family_of_model_type(const std::string& model_type, const std::string& source) {
  for (const FamilyPointer& family : families())
    for (const std::string& type : family->model_types)
      if (type == model_type) return family;
  fail(source, ": model_type \"", model_type,
       "\" is not a family that this program knows; known: ", known_model_types());
}

std::string known_model_types() {
  std::string known;
  for (const FamilyPointer& family : families())
    for (const std::string& type : family->model_types) known += (known.empty() ? "" : ", ") + type;
  return known;
}

}  // namespace llama_tp
