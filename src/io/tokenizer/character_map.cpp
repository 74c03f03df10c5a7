#include "io/tokenizer/character_map.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "io/tokenizer/protobuf.h"

namespace llama_tp {

namespace {

// The trie's size in bytes, its units as of Darts-clone, and the replacements, each ended by a zero.
bool is_sound(std::string_view map) {
  uint32_t trie_bytes = 0;
  if (map.size() < sizeof(trie_bytes)) return map.empty();
  std::memcpy(&trie_bytes, map.data(), sizeof(trie_bytes));
  map.remove_prefix(sizeof(trie_bytes));
  if (trie_bytes < sizeof(uint32_t) || trie_bytes >= map.size() || map.back() != '\0') return false;
  std::vector<uint32_t> units(trie_bytes / sizeof(uint32_t));
  std::memcpy(units.data(), map.data(), units.size() * sizeof(uint32_t));
  const size_t replacements = map.size() - trie_bytes;
  for (size_t i = 0; i < units.size(); i++) {
    const uint32_t unit = units[i];
    const bool is_value = i > 0 && unit >> 31 == 1, has_value = (unit >> 8 & 1) == 1;
    if (is_value) continue;
    const size_t children = i ^ static_cast<uint32_t>(unit >> 10 << (unit >> 6 & 8));  // one for each next byte
    if ((children | 0xff) >= units.size()) return false;
    if (has_value && (units[children] & 0x7fffffff) >= replacements) return false;
  }
  return true;
}

}  // namespace

bool has_sound_character_maps(std::string_view model) {
  constexpr uint64_t normalizer = 3, denormalizer = 5, precompiled_charsmap = 2;
  bool sound = true;
  for_each_field(model, [&](uint64_t part, uint64_t, std::string_view rules) {
    if (part != normalizer && part != denormalizer) return;
    for_each_field(rules, [&](uint64_t field, uint64_t, std::string_view map) {
      if (field == precompiled_charsmap) sound = sound && is_sound(map);
    });
  });
  return sound;
}

}  // namespace llama_tp
