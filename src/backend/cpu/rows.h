// How the element-wise kernels are spread over the threads: by whole rows, or by fixed blocks of a flat array. What a
// row or block yields never depends on the thread that works on it, so neither does a result on their number.
#pragma once

#include "backend/cpu/parallel.h"
#include "backend/tensor.h"
#include "backend/with_type.h"
#include "base/parts.h"

namespace llama_tp {

// Work of fewer elements than this ends sooner than the other threads could be woken (some microseconds).
inline constexpr int64_t worth_threads = 16384;

// kernel(row) for each of [0, rows), each row of about `elements` elements.
template <class Kernel>
void each_row(int threads, int64_t rows, int64_t elements, const Kernel& kernel) {
  const auto some = [&](Range range, int) {
    for (int64_t row = range.begin; row < range.end; row++) kernel(row);
  };
  if (threads == 1 || rows == 1 || rows * elements < worth_threads)
    some({0, rows}, 0);
  else
    parallel_ranges(threads, rows, 1, some);
}

// kernel(begin, count) for each block of a flat array of n elements, the last one shorter. A block is a multiple of a
// page, so that no two threads write to one.
inline constexpr int64_t flat_block = 16384;
template <class Kernel>
void each_block(int threads, int64_t n, const Kernel& kernel) {
  each_row(threads, parts_of(n, flat_block), flat_block, [&](int64_t block) {
    const int64_t begin = block * flat_block;
    kernel(begin, std::min(flat_block, n - begin));
  });
}

}  // namespace llama_tp
