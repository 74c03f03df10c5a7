// In squares of words, each a pair of elements that lie above each other: 2 · lanes rows by `lanes` columns at a time, in
// registers. A thread owns columns, which are rows of the result.
#include "backend/cpu/transposed_copy.h"

#include "backend/cpu/lanes.h"
#include "backend/cpu/rows.h"

namespace llama_tp {

namespace {

constexpr int64_t block_rows = 2 * lanes, block_columns = 2 * lanes;  // with AVX512 a cache line each way

// Words of the elements of one row beside those of the next, `columns` of both.
template <class Columns>
Words beside_each_other(const bf16* upper, const bf16* lower, Columns columns) {
  const Words first = widened(load_bits<HalfWords>(upper, columns));
  return lower == nullptr ? first : first | widened(load_bits<HalfWords>(lower, columns)) << 16;
}

template <class Rows>
void write_square(Words (&square)[lanes], int64_t columns, Rows rows, bf16* to, int64_t stride) {
  transpose(square);
  for (int64_t column = 0; column < columns; column++) store_bits(to + column * stride, rows, square[column]);
}

// Both squares of a row are loaded before either is written: rows may lie a multiple of 4 KiB apart, where few of their
// lines find a place in the first-level cache together.
void transpose_block(const bf16* from, int64_t stride, bf16* to, int64_t to_stride) {
  Words left[lanes], right[lanes];
#pragma GCC unroll 16
  for (int row = 0; row < lanes; row++) {
    const bf16 *const upper = from + 2 * row * stride, *const lower = upper + stride;
    __builtin_prefetch(upper + block_rows * stride);
    __builtin_prefetch(lower + block_rows * stride);
    left[row] = beside_each_other(upper, lower, Whole{0});
    right[row] = beside_each_other(upper, lower, Whole{lanes});
  }
  write_square(left, lanes, Whole{0}, to, to_stride);
  write_square(right, lanes, Whole{0}, to + lanes * to_stride, to_stride);
}

// What is left at the edges: up to block_rows rows and block_columns columns.
void transpose_part(const bf16* from, int64_t stride, int64_t rows, int64_t columns, bf16* to, int64_t to_stride) {
  for (int64_t column = 0; column < columns; column += lanes) {
    const int64_t count = std::min<int64_t>(lanes, columns - column);
    Words square[lanes] = {};
    for (int64_t row = 0; row < rows; row += 2) {
      const bf16* const upper = from + row * stride;
      square[row / 2] =
          beside_each_other(upper, row + 1 < rows ? upper + stride : nullptr, PartOfVector{column, count});
    }
    write_square(square, count, PartOfVector{0, rows}, to + column * to_stride, to_stride);
  }
}

}  // namespace

void transposed_copy(int threads, const bf16* from, int64_t stride, int64_t rows, int64_t columns, bf16* to) {
  parallel_ranges(threads_for(rows * columns, threads), columns, block_columns, [&](Range own, int) {
    for (int64_t row = 0; row < rows; row += block_rows)
      for (int64_t column = own.begin; column < own.end; column += block_columns) {
        const int64_t count = std::min(block_columns, own.end - column);
        const bf16* const corner = from + row * stride + column;
        bf16* const out = to + column * rows + row;
        if (count == block_columns && row + block_rows <= rows)
          transpose_block(corner, stride, out, rows);
        else
          transpose_part(corner, stride, std::min(block_rows, rows - row), count, out, rows);
      }
  });
}

}  // namespace llama_tp
