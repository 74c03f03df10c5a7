// What attention's kernels on Hopper share: a block of two warpgroups that compute, 64 rows each, and a warp that brings
// tiles to a ring of them.
#pragma once

#include "kernels/attention.h"
#include "kernels/swizzled_tile.h"
#include "kernels/tiles.h"

namespace llama_tp::kernels {

constexpr int consumers = 2, rows_a_consumer = 64, held_rows = consumers * rows_a_consumer;
constexpr int consumer_warps = consumers * warpgroup_size / warp_size;
constexpr int hopper_threads = (consumers + 1) * warpgroup_size;
// 65,536 registers for three warpgroups; numbers of registers are multiples of 8. More can only be taken than a thread
// has at the start when others have given as many back.
constexpr int producer_registers = 24, consumer_registers = 240,
              registers_at_start = (1 << 16) / hopper_threads / 8 * 8;
static_assert(consumers * consumer_registers + producer_registers <= (consumers + 1) * registers_at_start);

// Calls start.operator()<head_dim>() for the sizes that have_hopper_tiles. Errors: another size.
template <class Start>
void with_hopper_head_dim(int64_t head_dim, const Start& start) {
  require(has_hopper_tiles(head_dim), "attention: no tiles for heads of ", head_dim,
          " on Hopper; 64 and 128 have them");
  if (head_dim == 64) return start.template operator()<64>();
  start.template operator()<128>();
}

// ---- the ring

constexpr int stages = 2;

// Tile n of the walk: where in the ring, and which phase of its barriers.
struct Turn {
  int stage;
  uint32_t parity;
  __device__ __forceinline__ explicit Turn(int n) : stage(n % stages), parity(static_cast<uint32_t>(n / stages % 2)) {}
  // Of the phase that ends when the place is empty: in the first round of the ring the one before the first. A lane that
  // came there two phases late would wait for one that may never end, so one lane waits, or all meet in each turn.
  __device__ __forceinline__ uint32_t parity_before() const { return parity ^ 1; }
};

// A warp is done with a tile.
__device__ __forceinline__ void give_back(MemoryBarrier& empty) {
  __syncwarp();
  if (lane_of_warp() == 0) arrive(empty);
}

// Zeros from this row on, by a warp: 0 times what is there may be NaN.
template <class AnyTile>
__device__ __forceinline__ void clear_rows(AnyTile& tile, int first_row) {
  constexpr int pieces = AnyTile::columns_a_part / 8;
  for (int part = 0; part < AnyTile::parts; part++)
    for (int i = first_row * pieces + lane_of_warp(); i < AnyTile::rows * pieces; i += warp_size)
      store_bytes16(&tile.part[part][i / pieces][i % pieces * 8], Bytes16{});
}

// ---- products, each a group of its own

// sums = left · rightᵀ
template <class Left, class Right>
__device__ __forceinline__ void begin_scores(float (&sums)[Right::rows / 8][4], const Left& left, const Right& right) {
#pragma unroll
  for (int k = 0; k < Left::columns; k += 16)
    multiply_rows(sums, describe_columns(left, k), describe_columns(right, k), k > 0);
  commit_products();
}

// sums += left · right
template <class Right>
__device__ __forceinline__ void begin_sums(float (&sums)[Right::columns / 8][4],
                                           const uint32_t (&left)[Right::rows / 16][4], const Right& right) {
#pragma unroll
  for (int i = 0; i < Right::rows / 16; i++) add_product(sums, left[i], describe_rows(right, i * 16));
  commit_products();
}

// ---- results

// Rows that exist of a warp's sixteen.
template <int parts>
__device__ __forceinline__ void store_directly(const float (&sums)[parts][4], bf16* to, int64_t stride, int count) {
  const int lane = lane_of_warp();
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = lane / 4 + 8 * half;
    if (row >= count) continue;
    for (int j = 0; j < parts; j++)
      *reinterpret_cast<uint32_t*>(to + row * stride + 8 * j + lane % 4 * 2) =
          pair_of(sums[j][2 * half], sums[j][2 * half + 1]);
  }
}

}  // namespace llama_tp::kernels
