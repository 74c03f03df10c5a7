// Matrix products of tiles in shared memory, by a warp: sixteen rows of the result at a time, held in registers as the
// tensor cores leave them (ptx.h: multiply_add).
#pragma once

#include "kernels/ptx.h"

namespace llama_tp::kernels {

// Rows of bf16. The 16 bytes behind each make its length an odd multiple of 16 for every width that is a multiple of
// 16, so that eight rows at one column lie in eight different groups of banks.
template <int rows_, int columns_>
struct Tile {
  static constexpr int rows = rows_, columns = columns_;
  static_assert(columns % 16 == 0 && rows % 16 == 0);
  alignas(16) bf16 row[rows][columns + 8];
};

// Sixteen rows, n columns. Element i of part j is (lane/4 + 8·(i/2), 8j + 2·(lane%4) + i%2).
template <int n>
using Sums = float[n / 8][4];

template <int n>
__device__ __forceinline__ void set_zero(float (&sums)[n][4]) {
#pragma unroll
  for (int j = 0; j < n; j++)
    for (int i = 0; i < 4; i++) sums[j][i] = 0;
}

// Fills the tile by all threads of the block, in the background: row r from from + r · stride; past `count`, zeros.
template <class AnyTile>
__device__ __forceinline__ void load_async(AnyTile& tile, const bf16* from, int64_t stride, int count) {
  constexpr int vectors = AnyTile::columns / 8;
  for (int i = static_cast<int>(threadIdx.x); i < AnyTile::rows * vectors; i += static_cast<int>(blockDim.x)) {
    const int row = i / vectors, column = i % vectors * 8;
    copy_async(&tile.row[row][column], from + row * stride + column, row < count);
  }
}

// Rows first_row … + 15, columns k … + 15 of the tile, as the left factor.
template <class AnyTile>
__device__ __forceinline__ void load_left(uint32_t (&a)[4], const AnyTile& tile, int first_row, int k) {
  const int lane = lane_of_warp();
  load_matrices(a, &tile.row[first_row + lane % 16][k + lane / 16 * 8]);
}

// sums += a · bᵀ, where b is the tile's columns k … + 15 of all its rows.
template <class AnyTile>
__device__ __forceinline__ void add_product_with_rows(float (&sums)[AnyTile::rows / 8][4], const uint32_t (&a)[4],
                                                      const AnyTile& tile, int k) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int j = 0; j < AnyTile::rows; j += 16) {
    uint32_t b[4];
    load_matrices(b, &tile.row[j + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 8]);
    multiply_add(sums[j / 8], a, b[0], b[1]);
    multiply_add(sums[j / 8 + 1], a, b[2], b[3]);
  }
}

// sums += a · b, where b is the tile's rows k … + 15.
template <class AnyTile>
__device__ __forceinline__ void add_product_with_columns(float (&sums)[AnyTile::columns / 8][4], const uint32_t (&a)[4],
                                                         const AnyTile& tile, int k) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int j = 0; j < AnyTile::columns; j += 16) {
    uint32_t b[4];
    load_matrices_transposed(b, &tile.row[k + lane % 16][j + lane / 16 * 8]);
    multiply_add(sums[j / 8], a, b[0], b[1]);
    multiply_add(sums[j / 8 + 1], a, b[2], b[3]);
  }
}

// sums[16, rows] = left rows first_row … + 15 · rightᵀ, over all columns.
template <class Left, class Right>
__device__ __forceinline__ void product_of_rows(float (&sums)[Right::rows / 8][4], const Left& left, int first_row,
                                                const Right& right) {
  set_zero(sums);
#pragma unroll
  for (int k = 0; k < Left::columns; k += 16) {
    uint32_t a[4];
    load_left(a, left, first_row, k);
    add_product_with_rows(sums, a, right, k);
  }
}

// Sixteen rows, n columns of bf16 as the left factors of products, sixteen columns each.
template <int n>
using LeftFactors = uint32_t[n / 16][4];

// Sums rounded to bf16: tensor cores take them as they leave them.
template <int parts>
__device__ __forceinline__ void round_pairs(uint32_t (&factors)[parts / 2][4], const float (&sums)[parts][4]) {
#pragma unroll
  for (int i = 0; i < parts / 2; i++)
    for (int j = 0; j < 4; j++) {
      const float(&part)[4] = sums[2 * i + j / 2];
      factors[i][j] = pair_of(part[j % 2 * 2], part[j % 2 * 2 + 1]);
    }
}

// sums[16, columns] += values[16, rows] · right, with the values rounded to bf16.
template <class Right>
__device__ __forceinline__ void add_product_of_values(float (&sums)[Right::columns / 8][4],
                                                      const float (&values)[Right::rows / 8][4], const Right& right) {
  LeftFactors<Right::rows> left;
  round_pairs(left, values);
#pragma unroll
  for (int k = 0; k < Right::rows; k += 16) add_product_with_columns(sums, left[k / 16], right, k);
}

// Writes sixteen rows of sums as bf16: first into the tile's rows first_row … + 15, which belong to this warp and which
// it has read (a barrier ago), then in pieces of 16 bytes to to + r · stride for r < count.
template <class AnyTile>
__device__ __forceinline__ void store_rows(const float (&sums)[AnyTile::columns / 8][4], AnyTile& tile, int first_row,
                                           bf16* to, int64_t stride, int count) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int j = 0; j < AnyTile::columns / 8; j++)
    for (int half = 0; half < 2; half++) {
      bf16* const at = &tile.row[first_row + lane / 4 + 8 * half][8 * j + lane % 4 * 2];
      *reinterpret_cast<uint32_t*>(at) = pair_of(sums[j][2 * half], sums[j][2 * half + 1]);
    }
  __syncwarp();
  constexpr int vectors = AnyTile::columns / 8;
  for (int i = lane; i < 16 * vectors; i += warp_size) {
    const int row = i / vectors, column = i % vectors * 8;
    if (row < count) store_bytes16(to + row * stride + column, load_bytes16(&tile.row[first_row + row][column]));
  }
}

}  // namespace llama_tp::kernels
