#include "io/tokenizer/special_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

namespace llama_tp {

using nlohmann::json;

namespace {

// A file of the folder; without values where it is not there.
struct SmallFile {
  SmallFile(const std::filesystem::path& folder, const char* name)
      : path((folder / name).string()),
        values(std::filesystem::exists(path) ? read_json_object(path) : json::object()),
        component(Component::of_file(values, path)) {}
  SmallFile(const SmallFile&) = delete;
  SmallFile& operator=(const SmallFile&) = delete;

  std::string path;
  json values;
  Component component;  // of the values
};

// In the order in which they are asked.
using Files = std::array<const SmallFile*, 2>;

// "<s>", or {"content": "<s>", …}.
AddedToken read_special(const json& value, const std::string& where) {
  json entry = value.is_string() ? json{{"content", value}} : value;
  if (entry.is_object()) entry.update({{"id", 0}, {"special", true}});
  AddedToken token = AddedToken::read(Component(entry, where));
  token.id = no_token;
  return token;
}

std::optional<AddedToken> read_role(const char* key, const Files& files) {
  for (const SmallFile* file : files) {
    if (file->component.has(key)) return read_special(file->values[key], file->component.at(key).where());
  }
  return std::nullopt;
}

std::optional<bool> read_flag(const char* key, const Files& files) {
  for (const SmallFile* file : files) {
    if (file->component.has(key)) return file->component.flag(key, false);
  }
  return std::nullopt;
}

void read_roles(const Files& files, SpecialNames& names) {
  for (const std::string_view key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const std::optional<AddedToken> token = read_role(key.data(), files);
    if (!token) continue;
    if (key == "bos_token") names.bos = token->content;
    if (key == "eos_token") names.eos = token->content;
    names.roles.push_back(*token);
  }
}

// Lists; extra_special_tokens may be an object: {"image_token": "<image>"}.
void read_further(const Files& files, SpecialNames& names) {
  for (const SmallFile* file : files) {
    for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
      if (!file->component.has(key)) continue;
      const std::string where = file->component.at(key).where();
      for (const json& value : file->values[key]) names.further.push_back(read_special(value, where));
    }
  }
}

// "added_tokens_decoder": {"32000": {"content": …}, …}
std::vector<AddedToken> read_decoder(const SmallFile& config) {
  std::vector<AddedToken> added;
  for (const auto& [key, value] : config.values["added_tokens_decoder"].items()) {
    json entry = value;
    int32_t id = -1;
    const char* const end = key.data() + key.size();
    const Component place(entry, config.path + ": added_tokens_decoder." + key);
    if (std::from_chars(key.data(), end, id).ptr != end) place.refuse("its key is not a token id");
    if (entry.is_object()) entry["id"] = id;
    added.push_back(AddedToken::read(place));
  }
  return added;
}

// {"<pad>": 32000, …}
std::vector<AddedToken> read_ids(const SmallFile& file) {
  std::vector<AddedToken> added;
  for (const auto& [name, id] : file.values.items()) {
    const json entry = {{"content", name}, {"id", id}};
    added.push_back(AddedToken::read(Component(entry, file.path + ": " + name)));
  }
  return added;
}

// A token with a role is special, and where only its id was told it is looked for in the text as it is.
void mark_roles(SpecialNames& names) {
  for (AddedToken& token : names.added) {
    const auto same = [&](const AddedToken& role) { return role.content == token.content; };
    if (token.special || std::ranges::none_of(names.roles, same)) continue;
    token.special = true;
    if (!names.added_overrules) token.normalized = false;
  }
}

}  // namespace

SpecialNames read_special_names(const std::filesystem::path& folder) {
  const SmallFile config(folder, "tokenizer_config.json");
  const SmallFile map(folder, "special_tokens_map.json");
  const SmallFile ids(folder, "added_tokens.json");
  SpecialNames names;
  names.added_overrules = config.component.has("added_tokens_decoder");
  names.added = names.added_overrules ? read_decoder(config) : read_ids(ids);
  names.added_file = names.added_overrules ? config.path : ids.path;
  std::ranges::sort(names.added, {}, &AddedToken::id);

  const Files files = names.added_overrules ? Files{&config, &map} : Files{&map, &config};
  read_roles(files, names);
  read_further(files, names);
  names.add_bos = read_flag("add_bos_token", files);
  names.add_eos = read_flag("add_eos_token", files);
  mark_roles(names);
  return names;
}

}  // namespace llama_tp
