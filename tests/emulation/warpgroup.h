// Twins of Hopper's matrix products of a warpgroup, four warps together (PTX ISA: wgmma). They are done when they are
// waited for: until then their accumulators are NaN, and what is written to their factors meanwhile goes into them.
#pragma once

#include <cstdint>

#include "emulation/source_line.h"

namespace llama_tp::emulation {

// d[64, columns] = a[64, 16] · b[16, columns], or += where `add`. A thread has columns / 2 elements of d and, where a
// is in registers, 4 words of it; else left is null and a described. b is described as rows of n, or, transposed, of k.
struct WarpgroupProduct {
  float* d;
  int columns;
  const uint32_t* left;
  uint64_t a, b;
  bool transposed, add;
};
// Errors: a descriptor that no instruction takes, memory outside shared memory, threads of a warpgroup that differ, a
// product without a fence since this thread began or last waited: registers may have been written.
void multiply_asynchronously(const WarpgroupProduct& product);
void fence_products();
void commit_products();
// Waits for all groups but the latest `open`.
void wait_for_products(int open, SourceLine where);

// ---- for the machine

void begin_warpgroups();

}  // namespace llama_tp::emulation
