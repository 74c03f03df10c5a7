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
  require(found != part_names.end(), source, ": part is ", name, ", which no block has");
  return static_cast<Part>(found - part_names.begin());
}

// Errors: a key that nothing reads, such as a misspelt one.
void check_keys(const Json& json, const std::vector<std::string>& known, const std::string& source) {
  for (const auto& [key, value] : json.items())
    require(std::find(known.begin(), known.end(), key) != known.end(), source, ": key \"", key,
            "\" is none of a family; docs/families.md shows what a family has");
}

std::string word(const Json& json, const char* key, const std::string& source) {
  const auto found = json.find(key);
  require(found != json.end() && found->is_string(), source, ": ", key,
          " is missing or no string; docs/families.md shows what a family has");
  return found->get<std::string>();
}

// One word, or an array of some.
std::vector<std::string> words(const Json& json, const char* key, const std::string& source) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array()) return {word(json, key, source)};
  std::vector<std::string> all;
  for (const Json& one : *found) {
    require(one.is_string(), source, ": ", key, " holds more than strings; docs/families.md shows what a family has");
    all.push_back(one.get<std::string>());
  }
  return all;
}

// Puts the module where those were that it replaces, or at the end.
void place_module(const Json& json, const std::string& source, std::vector<Module>& modules) {
  require(json.is_object(), source, ": not a JSON object; a module is one, with part, name and style");
  check_keys(json, {"part", "name", "style"}, source);
  Module module;
  for (const std::string& name : words(json, "part", source)) module.parts.push_back(part_named(name, source));
  require(!module.parts.empty(), source, ": part is an empty array; name one part, or several that are packed");
  const auto replaced = [&](const Module& other) {
    return std::any_of(module.parts.begin(), module.parts.end(), [&](Part mine) {
      return std::find(other.parts.begin(), other.parts.end(), mine) != other.parts.end();
    });
  };
  const auto place = std::find_if(modules.begin(), modules.end(), replaced) - modules.begin();
  std::erase_if(modules, replaced);
  if (json.contains("name") && json.at("name").is_null()) return;
  module.name = word(json, "name", source);
  module.style = word(json, "style", source);
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

// Of the shipped family that is like no other: every option that there is.
std::map<std::string, std::string> all_options() {
  std::map<std::string, std::string> options;
  for (const auto& [name, content] : family_files)
    if (const Json json = parse_json_or_discard(content); !json.contains("like"))
      for (const auto& [option, value] : json.at("options").items()) options[option] = json_text(value);
  return options;
}

// What a file builds on. One without "like" brings all modules, but an option that it lacks may be younger than it is:
// checkpoints keep files of earlier versions.
Family base_of(const Json& json, const std::string& source) {
  if (json.contains("like")) return shipped_family(word(json, "like", source), source);
  Family base;
  base.options = all_options();
  return base;
}

// Errors: an option that no block has, such as a misspelt one.
void place_options(const Json& options, const std::string& source, Family& family) {
  for (const auto& [option, value] : options.items()) {
    require(family.options.contains(option), source, ": option ", option, " is none; docs/families.md shows them");
    family.options[option] = json_text(value);
  }
}

void place_only(const Json& only, const std::string& source, Family& family) {
  for (const auto& [key, values] : only.items()) {
    require(values.is_array() && !values.empty(), source, ": only \"", key,
            "\" is no array of the values that config.json may have there");
    family.only[key] = json_text(values);
  }
}

Family read_family(const std::string& source, const std::string& content) {
  const Json json = parse_json_or_discard(content);
  require(json.is_object(), source, ": not a JSON object; a family is one");
  require(json.contains("family"), source, ": has no \"family\", its name; docs/families.md shows what a family has");
  check_keys(json, {"family", "model_types", "like", "modules", "only", "options"}, source);
  const Json modules = json.value("modules", Json::array()), options = json.value("options", Json::object()),
             only = json.value("only", Json::object());
  require(modules.is_array(), source, ": modules is no array; docs/families.md shows what a family has");
  require(only.is_object(), source, ": only is no object; docs/families.md shows what a family has");
  require(options.is_object(), source, ": options is no object; docs/families.md shows what a family has");
  Family family = base_of(json, source);
  family.name = word(json, "family", source);
  if (json.contains("model_types")) family.model_types = words(json, "model_types", source);
  for (size_t i = 0; i < modules.size(); i++)
    place_module(modules[i], text(source, ": modules[", i, "]"), family.modules);
  place_only(only, source, family);
  place_options(options, source, family);
  return family;
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
