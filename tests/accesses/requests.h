// What a GPU has to do for a request: the same access by the lanes of a warp at once.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace llama_tp::accesses {

struct LaneAccess {
  uintptr_t at = 0;
  size_t bytes = 0;  // 0: this lane takes no part
};
using Request = std::array<LaneAccess, 32>;

struct Cost {
  int64_t needed, least;  // least: of as many bytes that lie best
};

// Shared memory has 32 banks of 4 bytes and gives a word of each at a time (a wavefront): to all lanes at once, of
// accesses of 8 bytes to half of them, of 16 bytes to a quarter. A word is given to all lanes that want it.
Cost wavefronts_of(const Request& request);

// Global memory is moved in sectors of 32 bytes.
Cost sectors_of(const Request& request);
inline constexpr int64_t sector_bytes = 32;

// Different bytes that the lanes want.
int64_t bytes_of(const Request& request);

}  // namespace llama_tp::accesses
