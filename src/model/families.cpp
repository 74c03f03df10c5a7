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

Module read_module(const Json& json) {
  Module module{{}, json.at("name"), json.at("style")};
  const Json& part = json.at("part");
  for (const Json& name : part.is_array() ? part : Json::array({part})) module.parts.push_back(part_named(name));
  return module;
}

Family read_family(const char* name, const char* content) {
  const Json json = parse_json_or_discard(content);
  require(!json.is_discarded(), "family ", name, ": not JSON");
  Family family{json.at("family"), json.at("model_types"), {}, {}};
  for (const Json& module : json.at("modules")) family.modules.push_back(read_module(module));
  for (const auto& [option, value] : json.at("options").items()) family.options[option] = json_text(value);
  return family;
}

}  // namespace

std::string_view name_of(Part part) { return part_names[static_cast<size_t>(part)]; }

const std::vector<Family>& families() {
  static const std::vector<Family> all = [] {
    std::vector<Family> read;
    for (const auto& [name, content] : family_files) read.push_back(read_family(name, content));
    return read;
  }();
  return all;
}

const Family& family_of_model_type(const std::string& model_type, const std::string& source) {
  std::string known;
  for (const Family& family : families())
    for (const std::string& type : family.model_types) {
      if (type == model_type) return family;
      known += (known.empty() ? "" : ", ") + type;
    }
  fail(source, ": model_type \"", model_type, "\" is not a family that this program knows; known: ", known);
}

}  // namespace llama_tp
