// Words that were encoded before, with their ids: natural text repeats most of its words. One entry is one cache line;
// a newer word takes the place of an older one, so that the cache never grows and needs no upkeep.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "io/tokenizer/hash.h"

namespace llama_tp {

class WordCache {
 public:
  static constexpr size_t longest_word = 30;  // bytes
  static constexpr size_t most_ids = 8;

  static bool fits(std::string_view word) { return word.size() <= longest_word; }

  // A word in the form that entries are compared by: padded with zeros to a fixed length. The word must fit.
  class Key {
   public:
    explicit Key(std::string_view word) : length_(static_cast<uint8_t>(word.size())) {
      std::memcpy(bytes_.data(), word.data(), word.size());
    }
    bool operator==(const Key&) const = default;
    size_t slot() const {
      std::array<uint64_t, sizeof(Key) / 8> parts;
      std::memcpy(parts.data(), this, sizeof(Key));
      const uint64_t hash = mix(parts[0] ^ hash_seed, parts[1] ^ hash_step) ^ mix(parts[2] ^ hash_seed, ~parts[3]);
      return hash >> (64 - slot_bits);
    }

   private:
    std::array<char, longest_word> bytes_{};
    uint8_t length_;
    uint8_t padding_ = 0;
  };

  // The ids of the word; empty where it is not here.
  std::span<const int32_t> find(const Key& key) const {
    const Entry& entry = entries_[key.slot()];
    if (!(entry.key == key)) return {};
    const auto end = std::find(entry.ids.begin(), entry.ids.end(), end_of_ids);
    return {entry.ids.begin(), end};
  }

  // Words of no ids or too many are not kept.
  void put(const Key& key, std::span<const int32_t> ids) {
    if (ids.empty() || ids.size() > most_ids) return;
    Entry& entry = entries_[key.slot()];
    entry.key = key;
    std::fill(std::copy(ids.begin(), ids.end(), entry.ids.begin()), entry.ids.end(), end_of_ids);
  }

 private:
  static constexpr int slot_bits = 15;  // 2 MiB: what a core's second-level cache about holds
  static constexpr int32_t end_of_ids = -1;

  struct alignas(64) Entry {
    Key key{""};  // no word is empty
    std::array<int32_t, most_ids> ids{};
  };
  static_assert(sizeof(Key) == 32 && sizeof(Entry) == 64);

  std::unique_ptr<Entry[]> entries_ = std::make_unique<Entry[]>(size_t{1} << slot_bits);
};

}  // namespace llama_tp
