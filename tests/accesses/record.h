// A record of what emulated kernels ask of shared and global memory. Kernels that are compiled with -fsanitize=thread
// call a function at each access, which a program that has this record takes in ThreadSanitizer's place. The accesses of
// a warp's lanes at one place in the code, each lane's n-th there, are a request (requests.h).
//
// The compiler is not the GPU's: it may join or divide accesses where that one does not. Accesses of 16 bytes are vectors
// to both (kernels/ptx.h). Of caches nothing is known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

namespace llama_tp::accesses {

// Of a kernel, by its address: a place in the code, as the address that it returns to.
struct Site {
  const void *kernel, *code;
  bool shared, writes;
  auto operator<=>(const Site&) const = default;
};

struct Tally {
  int64_t requests = 0;
  int64_t needed = 0, least = 0;           // wavefronts or sectors
  int64_t bytes = 0, in_pieces_of_16 = 0;  // that were asked for
};

struct LaunchOfKernel {
  const void* kernel;
  unsigned threads;
  size_t shared_bytes;
  auto operator<=>(const LaunchOfKernel&) const = default;
};

// Since the program began, or since clear().
const std::map<Site, Tally>& sites();
const std::vector<LaunchOfKernel>& launches();
void clear();

}  // namespace llama_tp::accesses
