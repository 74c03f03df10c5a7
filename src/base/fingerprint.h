// Contents as one number, by which they are known again: 64-bit FNV-1a (Fowler, Noll & Vo). The numbers stand in files
// (state.json, the names of tokenized data), and random weights come from them (stream_named): never change them.
#pragma once

#include <cstdint>
#include <string_view>

namespace llama_tp {

constexpr uint64_t fingerprint(std::string_view bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace llama_tp
