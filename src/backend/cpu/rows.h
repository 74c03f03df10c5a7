// How the element-wise kernels are spread over the threads: by whole rows, or by fixed blocks of a flat array. What a
// row or block yields never depends on the thread that works on it, so neither does a result on their number.
#pragma once

#include "backend/cpu/parallel.h"
#include "backend/tensor.h"
#include "backend/with_type.h"
#include "base/parts.h"

namespace llama_tp {

// kernel(row) for each of [0, rows), each row of about `elements` elements.
template <class Kernel>
void each_row(int threads, int64_t rows, int64_t elements, const Kernel& kernel) {
  parallel_ranges(rows == 1 ? 1 : threads_for(rows * elements, threads), rows, 1, [&](Range range, int) {
    for (int64_t row = range.begin; row < range.end; row++) kernel(row);
  });
}

// kernel(begin, count) for each block of a flat array of n elements, the last one shorter; an element counts as `each` of
// a copy. A block is a multiple of a page, so that no two threads write to one.
inline constexpr int64_t flat_block = 16384;
template <class Kernel>
void each_block(int threads, int64_t n, const Kernel& kernel, int64_t each = 1) {
  each_row(threads, ceil_div(n, flat_block), flat_block * each, [&](int64_t block) {
    const int64_t begin = block * flat_block;
    kernel(begin, std::min(flat_block, n - begin));
  });
}

}  // namespace llama_tp
