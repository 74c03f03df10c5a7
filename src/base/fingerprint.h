// Contents as one number, by which they are known again. The numbers stand in files (state.json, tokenized data), and
// random weights come from them (stream_named): never change them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace llama_tp {

// Of a name or a text: 64-bit FNV-1a (Fowler, Noll & Vo).
constexpr uint64_t fingerprint(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// Of data however large, eight bytes at a time. Each step is one to one in the number so far and in the eight bytes, so
// that data which differ in these alone never have the same number. `before`: the number of what stands in front.
inline uint64_t data_fingerprint(std::string_view bytes, uint64_t before = 0) {
  constexpr uint64_t factor = 0xD1B54A32D192ED03u;  // odd, with about as many ones as zeros
  uint64_t hash = before;
  for (size_t at = 0; at < bytes.size(); at += sizeof hash) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
    hash = (hash ^ word) * factor;
    hash ^= hash >> 32;
  }
  return hash ^ bytes.size();
}

template <class Value>
uint64_t data_fingerprint(std::span<const Value> values, uint64_t before = 0) {
  return data_fingerprint(std::string_view(reinterpret_cast<const char*>(values.data()), values.size_bytes()), before);
}

}  // namespace llama_tp
