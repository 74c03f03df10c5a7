#include "model/families.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr std::pair<const char*, const char*> family_files[] = {
#include "families.inc"
};

constexpr std::array<std::string_view, 14> part_names{"embedding", "attention_norm", "q",          "k",        "v",
                                                      "o",         "q_norm",         "k_norm",     "mlp_norm", "gate",
                                                      "up",        "down",           "final_norm", "head"};

Part part_named(const std::string& name, const std::string& source) {
  const auto found = std::find(part_names.begin(), part_names.end(), name);
  require(found != part_names.end(), source, ": a module's part is ", name, ", which no block has");
  return static_cast<Part>(found - part_names.begin());
}

// Errors: a key that nothing reads, such as a misspelt one.
void check_keys(const Json& json, const std::vector<std::string>& known, const std::string& source) {
  for (const auto& [key, value] : json.items())
    require(std::find(known.begin(), known.end(), key) != known.end(), source, ": key \"", key,
            "\" is none of a family; docs/families.md shows what a family has");
}

// Puts the module where those were that it replaces, or at the end.
void place_module(const Json& json, const std::string& source, std::vector<Module>& modules) {
  check_keys(json, {"part", "name", "style"}, source);
  Module module;
  const Json& part = json.at("part");
  require(!part.empty(), source, ": a module's part is an empty array; name one part, or several that are packed");
  for (const Json& name : part.is_array() ? part : Json::array({part}))
    module.parts.push_back(part_named(name, source));
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

Family read_family(const std::string& source, const std::string& content);

Family shipped_family(const std::string& wanted, const std::string& source) {
  std::string known;
  for (const auto& [name, content] : family_files) {
    if (name == wanted) return read_family(name, content);
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  fail(source, ": like \"", wanted, "\", which is no family; there are ", known);
}

void place_options(const Json& json, const std::string& source, Family& family) {
  const std::string like = json.value("like", "");
  for (const auto& [option, value] : json.at("options").items()) {
    require(like.empty() || family.options.contains(option), source, ": option ", option, " is none; ", like,
            " in src/model/families has them all");
    family.options[option] = json_text(value);
  }
}

Family read_family(const std::string& source, const std::string& content) {
  const Json json = parse_json_or_discard(content);
  require(json.is_object(), source, ": not a JSON object; a family is one");
  require(json.contains("family"), source, ": has no \"family\", its name; docs/families.md shows what a family has");
  check_keys(json, {"family", "model_types", "like", "modules", "options"}, source);
  require(json.value("modules", Json::array()).is_array(), source,
          ": modules is no array; docs/families.md shows what a family has");
  require(json.value("options", Json::object()).is_object(), source,
          ": options is no object; docs/families.md shows what a family has");
  try {
    Family family = json.contains("like") ? shipped_family(json.at("like"), source) : Family{};
    family.name = json.at("family");
    family.model_types = json.value("model_types", std::vector<std::string>{});
    if (json.contains("modules"))
      for (const Json& module : json.at("modules")) place_module(module, source, family.modules);
    if (json.contains("options")) place_options(json, source, family);
    return family;
  } catch (const Json::exception& error) {
    fail(source, ": ", error.what(), "; docs/families.md shows what a family has");
  }
}

}  // namespace

std::string_view name_of(Part part) { return part_names.at(static_cast<size_t>(part)); }

bool is_norm(Part part) {
  return part == Part::attention_norm || part == Part::mlp_norm || part == Part::final_norm || part == Part::q_norm ||
         part == Part::k_norm;
}

bool outside_blocks(Part part) { return part == Part::embedding || part == Part::final_norm || part == Part::head; }

FamilyPointer parse_family(const std::string& text, const std::string& source) {
  Family family = read_family(source, text);
  family.text = text;
  return std::make_shared<const Family>(std::move(family));
}

FamilyPointer read_family_file(const std::string& file) {
  constexpr int64_t largest = int64_t{1} << 20;
  return file.empty() ? nullptr : parse_family(read_text(file, largest), file);
}

FamilyPointer unlisted_family() { return std::make_shared<const Family>(shipped_family("unlisted", "")); }

const std::vector<FamilyPointer>& families() {
  static const std::vector<FamilyPointer> all = [] {
    std::vector<FamilyPointer> read;
    for (const auto& [name, content] : family_files)
      read.push_back(std::make_shared<const Family>(read_family(std::string("family ") + name, content)));
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
