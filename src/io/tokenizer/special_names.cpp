#include "io/tokenizer/special_names.h"

#include <charconv>
#include <nlohmann/json.hpp>

namespace llama_tp {

using nlohmann::json;

namespace {

// "bos_token": "<s>", or {"content": "<s>", …}, or null.
void read_name(const Component& config, std::string_view key, std::optional<std::string>& name) {
  if (name || !config.has(key)) return;
  const Component token = config.at(key);
  name = token.is_text() ? token.as_text() : token.text("content");
}

void read_flag(const Component& config, std::string_view key, std::optional<bool>& flag) {
  if (config.has(key)) flag = config.flag(key, false);
}

// "added_tokens_decoder": {"32000": {"content": …}, …}
void read_added(const json& config, const std::string& path, std::vector<AddedToken>& added) {
  const auto tokens = config.find("added_tokens_decoder");
  if (tokens == config.end() || !tokens->is_object()) return;
  for (const auto& [key, value] : tokens->items()) {
    json entry = value;
    int32_t id = -1;
    const char* const end = key.data() + key.size();
    const Component place(entry, path + ": added_tokens_decoder." + key);
    if (std::from_chars(key.data(), end, id).ptr != end) place.refuse("its key is not a token id");
    if (entry.is_object()) entry["id"] = id;
    added.push_back(AddedToken::read(place));
  }
}

// {"<pad>": 32000, …}
void read_added_ids(const json& ids, const std::string& path, std::vector<AddedToken>& added) {
  for (const auto& [name, id] : ids.items()) {
    const json entry = {{"content", name}, {"id", id}};
    added.push_back(AddedToken::read(Component(entry, path + ": " + name)));
  }
}

}  // namespace

SpecialNames read_special_names(const std::filesystem::path& folder) {
  SpecialNames names;
  const auto read = [&](const char* file, const auto& use) {
    const std::string path = (folder / file).string();
    if (std::filesystem::exists(path)) use(read_json_object(path), path);
  };
  read("added_tokens.json", [&](const json& ids, const std::string& path) { read_added_ids(ids, path, names.added); });
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
    read(file, [&](const json& config, const std::string& path) {
      const Component component = Component::of_file(config, path);
      read_name(component, "bos_token", names.bos);
      read_name(component, "eos_token", names.eos);
      read_flag(component, "add_bos_token", names.add_bos);
      read_flag(component, "add_eos_token", names.add_eos);
      read_added(config, path, names.added);
    });
  }
  return names;
}

}  // namespace llama_tp
