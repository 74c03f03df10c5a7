#include "io/tokenizer/special_names.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/json.h"
#include "io/files.h"

namespace llama_tp {

using nlohmann::json;

namespace {

constexpr std::array role_keys{"bos_token", "eos_token", "unk_token", "sep_token",
                               "pad_token", "cls_token", "mask_token"};
constexpr const char* extra_key = "extra_special_tokens";
constexpr const char* additional_key = "additional_special_tokens";  // the older name

// A file of the folder; without values where it is not there, or does not count.
struct SmallFile {
  SmallFile(const std::filesystem::path& folder, const char* name, bool counts = true)
      : path((folder / name).string()),
        values(counts && file_exists(path)
                   ? parse_json_object(read_text(path), path, "; the file is cut or damaged, fetch it again")
                   : json::object()),
        in_order(values.empty() ? OrderedJson::object() : parse_ordered_json(read_text(path))),
        component(JsonPart::of_file(values, path)) {}
  SmallFile(const SmallFile&) = delete;
  SmallFile& operator=(const SmallFile&) = delete;

  std::string path;
  json values;
  OrderedJson in_order;  // the same, as written: tokens without an id are numbered in this order
  JsonPart component;    // of the values
};

struct Files {
  const SmallFile& map;
  const SmallFile& config;

  // The map overrules the config. Null: neither says it.
  const SmallFile* that_says(const char* key) const {
    if (map.component.has(key)) return &map;
    return config.component.has(key) ? &config : nullptr;
  }
};

// "<s>", or {"content": "<s>", …}.
AddedToken read_special(const json& value, const std::string& where) {
  json entry = value.is_string() ? json{{"content", value}} : value;
  if (entry.is_object()) entry.update({{"id", 0}, {"special", true}});
  AddedToken token = AddedToken::read(JsonPart(entry, where));
  token.id = no_token;
  return token;
}

std::optional<bool> read_flag(const char* key, const Files& files) {
  const SmallFile* const file = files.that_says(key);
  return file ? std::optional(file->component.flag(key, false)) : std::nullopt;
}

void read_roles(const Files& files, SpecialNames& names) {
  for (const std::string_view key : role_keys) {
    const SmallFile* const file = files.that_says(key.data());
    if (!file) continue;
    const AddedToken token = read_special(file->values.at(key), file->component.at(key).where());
    if (key == "bos_token") names.bos = token.content;
    if (key == "eos_token") names.eos = token.content;
    names.roles.push_back(token);
  }
}

bool has_list(const SmallFile& file, const char* key) {
  return file.values.contains(key) && !file.values.at(key).is_object();
}

void read_list(const SmallFile& file, const char* key, SpecialNames& names) {
  if (!has_list(file, key) || !file.component.has(key)) return;
  const std::vector<JsonPart> places = file.component.list(key);
  for (size_t i = 0; i < places.size(); ++i) {
    names.further.push_back(read_special(file.values.at(key)[i], places[i].where()));
  }
}

// The config's list, and behind it the map's. True: there is one, be it empty.
bool read_extra(const Files& files, SpecialNames& names) {
  const json extra = files.config.values.value(extra_key, json());
  const bool is_object = extra.is_object() && !extra.empty();
  if (!is_object) read_list(files.config, extra.empty() ? additional_key : extra_key, names);
  read_list(files.map, extra_key, names);
  return has_list(files.config, extra_key) || has_list(files.map, extra_key) ||
         (!is_object && has_list(files.config, additional_key));
}

// By name, as image_token.
using NamedTokens = std::vector<std::pair<std::string, AddedToken>>;

// A second token of the same name takes the place of the first.
void set_named(const std::string& name, const json& value, const std::string& where, NamedTokens& tokens) {
  AddedToken token = read_special(value, where);
  const auto known = std::ranges::find(tokens, name, &NamedTokens::value_type::first);
  if (known == tokens.end()) {
    tokens.emplace_back(name, std::move(token));
  } else {
    known->second = std::move(token);
  }
}

// "image_token": "<image>"; other things may have such a key too.
void read_named_keys(const SmallFile& file, NamedTokens& tokens) {
  for (const auto& [key, written] : file.in_order.items()) {
    const bool is_role = std::ranges::find(role_keys, key) != role_keys.end();
    const bool is_token = written.is_string() || (written.is_object() && written.contains("content"));
    if (!key.ends_with("_token") || is_role || !is_token) continue;
    set_named(key, file.values.at(key), file.component.at(key).where(), tokens);
  }
}

// "extra_special_tokens": {"image_token": "<image>"}
void read_named_extra(const SmallFile& file, NamedTokens& tokens) {
  if (!file.component.has(extra_key) || has_list(file, extra_key)) return;
  const JsonPart place = file.component.at(extra_key);
  for (const auto& [name, written] : file.in_order.at(extra_key).items()) {
    set_named(name, file.values.at(extra_key).at(name), place.at(name).where(), tokens);
  }
}

std::vector<AddedToken> read_named(const Files& files) {
  NamedTokens tokens;
  read_named_keys(files.map, tokens);
  read_named_keys(files.config, tokens);
  read_named_extra(files.config, tokens);
  read_named_extra(files.map, tokens);
  std::vector<AddedToken> result;
  for (auto& [name, token] : tokens) result.push_back(std::move(token));
  return result;
}

// "added_tokens_decoder": {"32000": {"content": …}, …}
std::vector<AddedToken> read_decoder(const SmallFile& config) {
  std::vector<AddedToken> added;
  for (const auto& [key, value] : config.values["added_tokens_decoder"].items()) {
    json entry = value;
    int32_t id = -1;
    const char* const end = key.data() + key.size();
    const JsonPart place(entry, config.path + ": added_tokens_decoder." + key);
    if (const auto read = std::from_chars(key.data(), end, id); read.ptr != end || read.ec != std::errc())
      place.refuse("its key is not a token id");
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
    added.push_back(AddedToken::read(JsonPart(entry, file.path + ": " + name)));
  }
  return added;
}

// Those of the added tokens that are among `special`.
void mark_special(const std::vector<AddedToken>& special, bool keep_normalized, SpecialNames& names) {
  for (AddedToken& token : names.added) {
    const auto same = [&](const AddedToken& other) { return other.content == token.content; };
    if (token.special || std::ranges::none_of(special, same)) continue;
    token.special = true;
    if (!keep_normalized) token.normalized = false;
  }
}

void read_further(const Files& files, SpecialNames& names) {
  const bool has_extra = read_extra(files, names);
  if (!names.added_overrules) mark_special(names.further, false, names);
  // AutoTokenizer looks at these too late for their ids in added_tokens.json to be special.
  const SmallFile* const file = files.that_says(additional_key);
  if (!has_extra && file) read_list(*file, additional_key, names);
}

}  // namespace

SpecialNames read_special_names(const std::filesystem::path& folder) {
  SpecialNames names;
  const SmallFile config(folder, "tokenizer_config.json");
  names.added_overrules = config.component.has("added_tokens_decoder");
  const SmallFile map(folder, "special_tokens_map.json", !names.added_overrules);
  const SmallFile ids(folder, "added_tokens.json", !names.added_overrules);
  names.added = names.added_overrules ? read_decoder(config) : read_ids(ids);
  names.added_file = names.added_overrules ? config.path : ids.path;
  std::ranges::sort(names.added, {}, &AddedToken::id);

  const Files files{map, config};
  read_roles(files, names);
  mark_special(names.roles, names.added_overrules, names);
  read_further(files, names);
  const std::vector<AddedToken> named = read_named(files);
  mark_special(named, true, names);
  names.roles.insert(names.roles.end(), named.begin(), named.end());
  names.add_bos = read_flag("add_bos_token", files);
  names.add_eos = read_flag("add_eos_token", files);
  names.legacy = read_flag("legacy", files);
  names.add_prefix_space = read_flag("add_prefix_space", files);
  return names;
}

}  // namespace llama_tp
