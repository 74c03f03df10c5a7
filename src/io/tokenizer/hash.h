// One hash for token names and words: eight bytes at a time through a multiplication whose halves are folded together.
// For tables in memory only: it is neither portable between byte orders nor safe against chosen input.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace llama_tp {

inline uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Odd numbers with about as many ones as zeros.
inline constexpr uint64_t hash_seed = 0x9E3779B97F4A7C15u;
inline constexpr uint64_t hash_step = 0xD1B54A32D192ED03u;

inline uint64_t hash_of(std::string_view bytes) {
  uint64_t state = hash_seed ^ bytes.size();
  size_t position = 0;
  for (; position + 8 <= bytes.size(); position += 8) {
    uint64_t eight;
    std::memcpy(&eight, bytes.data() + position, 8);
    state = mix(state ^ eight, hash_step);
  }
  uint64_t rest = 0;
  if (position < bytes.size()) std::memcpy(&rest, bytes.data() + position, bytes.size() - position);
  return mix(state ^ rest, hash_step);
}

}  // namespace llama_tp
