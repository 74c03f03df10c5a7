#include "model/families.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/json_part.h"
#include "io/files.h"

namespace llama_tp {

namespace {

constexpr std::pair<const char*, const char*> family_files[] = {
#include "families.inc"
};

constexpr const char* family_mend = "; docs/families.md shows what a family has";

constexpr std::array<std::string_view, static_cast<size_t>(Part::head) + 1> part_names{
    "embedding", "attention_norm", "q",    "k",  "v",    "o",          "q_norm",
    "k_norm",    "mlp_norm",       "gate", "up", "down", "final_norm", "head"};
static_assert(!part_names.back().empty(), "a name for each");

Part part_named(const std::string& name, const std::string& source) {
  const auto found = std::find(part_names.begin(), part_names.end(), name);
  require(found != part_names.end(), source, ": part is ", name, ", which no block has");
  return static_cast<Part>(found - part_names.begin());
}

// One word, or an array of some.
std::vector<std::string> words(const JsonPart& json, const char* key) {
  if (!json.at(key).json().is_array()) return {json.text(key)};
  std::vector<std::string> all;
  for (const JsonPart& one : json.list(key)) all.push_back(one.as_text());
  return all;
}

// Puts the module where those were that it replaces, or at the end.
void place_module(const JsonPart& json, std::vector<Module>& modules) {
  json.check_keys({"part", "name", "style"});
  Module module;
  for (const std::string& name : words(json, "part")) module.parts.push_back(part_named(name, json.where()));
  if (module.parts.empty()) json.refuse("part is an empty array; name one part, or several that are packed");
  const auto replaced = [&](const Module& other) {
    return std::any_of(module.parts.begin(), module.parts.end(), [&](Part mine) {
      return std::find(other.parts.begin(), other.parts.end(), mine) != other.parts.end();
    });
  };
  const auto place = std::find_if(modules.begin(), modules.end(), replaced) - modules.begin();
  std::erase_if(modules, replaced);
  if (json.json().contains("name") && !json.has("name")) return;  // null
  module.name = json.text("name");
  module.style = json.text("style");
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
Family base_of(const JsonPart& file) {
  if (file.json().contains("like")) return shipped_family(file.text("like"), file.where());
  Family base;
  base.options = all_options();
  return base;
}

// Errors: an option that no block has, such as a misspelt one.
void place_options(const JsonPart& options, Family& family) {
  for (const auto& [option, value] : options.entries()) {
    require(family.options.contains(option), value.where(), ": there is no such option", family_mend);
    family.options[option] = json_text(value.json());
  }
}

// The values that config.json may have at some of its keys.
void place_only(const JsonPart& only, Family& family) {
  for (const auto& [key, values] : only.entries()) {
    if (values.items().empty()) values.refuse("is empty; name the values that config.json may have there");
    family.only[key] = json_text(values.json());
  }
}

Family read_family(const std::string& source, const std::string& content) {
  const Json json = parse_json_object(content, source, family_mend);
  const auto file = JsonPart::of_file(json, source, family_mend);
  const std::string name = file.text("family");  // what has none is another kind of file
  file.check_keys({"family", "model_types", "like", "modules", "only", "options"});
  const auto has = [&](const char* key) { return json.contains(key); };  // null, too, which is then refused
  Family family = base_of(file);
  family.name = name;
  if (has("model_types")) family.model_types = words(file, "model_types");
  if (has("modules"))
    for (const JsonPart& module : file.list("modules")) place_module(module, family.modules);
  if (has("only")) place_only(file.at("only"), family);
  if (has("options")) place_options(file.at("options"), family);
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
