// What attention's kernels on Hopper share: a block of two warpgroups that compute, 64 rows each, and a warp that brings
// tiles to a ring of them.
#pragma once

#include "kernels/attention.h"
#include "kernels/swizzled_tile.h"
#include "kernels/tiles.h"

// Where the bodies of kernels are left out (ptx_hopper.h), so are the calls of some functions.
#pragma nv_diag_suppress 177

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

// ---- the 128 queries of a head that a block has

struct HeldQueries {
  int head, kv_head, first;
  Sequence sequence;

  __device__ __forceinline__ explicit HeldQueries(const AttentionShape& shape) {
    const HeldTile tile = held_tile<Side::queries>(shape, held_rows);
    sequence = tile.sequence;
    first = tile.first;
    head = static_cast<int>(blockIdx.x);
    kv_head = head / static_cast<int>(shape.heads / shape.kv_heads);
  }
};

// ---- a ring of tiles

// Full: the tile is there. Empty: each warp of the consumers is done with it.
template <int stages>
struct RingBarriers {
  MemoryBarrier full[stages], empty[stages];
};

// tiles: how many come together.
template <int stages>
__device__ __forceinline__ void initialize(RingBarriers<stages>& ring, int tiles) {
  for (int stage = 0; stage < stages; stage++) {
    initialize(ring.full[stage], tiles);
    initialize(ring.empty[stage], consumer_warps);
  }
}

// A block's barriers, by one thread. held_full: of the rows that it has; landed: of a tile's rows that are cleared before
// it counts as there.
template <int... stages>
__device__ __forceinline__ void initialize_barriers(MemoryBarrier& held_full, MemoryBarrier& landed, int tiles,
                                                    RingBarriers<stages>&... rings) {
  initialize(held_full, 1);
  initialize(landed, 1);
  (initialize(rings, tiles), ...);
  fence_async_proxy();
}

// Where the tile lies whose turn it is, and which phase of its barriers.
template <int stages>
struct Turn {
  int stage = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

template <int stages>
__device__ __forceinline__ void wait_until_full(RingBarriers<stages>& ring, const Turn<stages>& turn,
                                                Place where = Place::current()) {
  wait_for(ring.full[turn.stage], turn.parity, where);
}
// The same, behind the arithmetic that this number comes from, which is never negative. ptxas moves a wait for products up
// to the last branch in front of it, over arithmetic that is to run beside these products; and arithmetic down over a
// branch that does not need it. This one does.
template <int stages>
__device__ __forceinline__ void wait_until_full_behind(float number, RingBarriers<stages>& ring,
                                                       const Turn<stages>& turn, Place where = Place::current()) {
  const uint32_t never = number < 0 ? 1 : 0;
  wait_for(ring.full[turn.stage], turn.parity ^ never, where);
}
// In the first round of the ring that is the phase before the first. A lane that came there two phases late would wait for
// one that may never end, so one lane waits, or all meet in each turn.
template <int stages>
__device__ __forceinline__ void wait_until_empty(RingBarriers<stages>& ring, const Turn<stages>& turn,
                                                 Place where = Place::current()) {
  wait_for(ring.empty[turn.stage], turn.parity ^ 1, where);
}

// A warp is done with a tile.
template <int stages>
__device__ __forceinline__ void give_back(RingBarriers<stages>& ring, int stage) {
  __syncwarp();
  if (lane_of_warp() == 0) arrive(ring.empty[stage]);
}

// ---- the warp that brings the tiles

// Where the rows of a tile are.
struct Rows {
  const TensorMap& map;
  int row, head, column = 0;
};

template <class AnyTile>
__device__ __forceinline__ void bring(AnyTile& tile, const Rows& rows, MemoryBarrier& full) {
  if (lane_of_warp() != 0) return;
  arrive_and_expect(full, AnyTile::bytes);
  copy_rows(tile, rows.map, rows.row, rows.head, full, rows.column);
}

// One behind the other, for each consumer one. By one thread; the bytes are announced by who waits for them there.
template <class AnyTile>
__device__ __forceinline__ void copy_held(AnyTile (&tiles)[consumers], const Rows& rows, MemoryBarrier& full) {
  for (int i = 0; i < consumers; i++)
    copy_rows(tiles[i], rows.map, rows.row + i * AnyTile::rows, rows.head, full, rows.column);
}

// Zeros from this row on, by a warp: 0 times what is there may be NaN.
template <class AnyTile>
__device__ __forceinline__ void clear_rows(AnyTile& tile, int first_row) {
  constexpr int pieces = AnyTile::columns_a_part / 8;
#pragma unroll 1  // it is seldom run, by threads of few registers
  for (int part = 0; part < AnyTile::parts; part++)
#pragma unroll 1
    for (int i = first_row * pieces + lane_of_warp(); i < AnyTile::rows * pieces; i += warp_size)
      store_bytes16(&tile.part[part][i / pieces][i % pieces * 8], Bytes16{});
}

// Where tiles that are cleared in part land before they are full.
struct Landing {
  MemoryBarrier& landed;
  uint32_t parity = 0;
};

// exist: how many of the rows belong to the sequence, from the first one on; the others become zeros.
template <class AnyTile>
__device__ __forceinline__ void bring_cleared(AnyTile& tile, const Rows& rows, int exist, MemoryBarrier& full,
                                              Landing& landing) {
  if (exist >= AnyTile::rows) return bring(tile, rows, full);
  bring(tile, rows, landing.landed);
  wait_for(landing.landed, landing.parity);
  landing.parity ^= 1;
  clear_rows(tile, exist);
  fence_async_proxy();
  __syncwarp();
  if (lane_of_warp() == 0) arrive(full);
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

// sums += left · right, of right's rows from `begin` to `end`.
template <int begin, int end, class Right>
__device__ __forceinline__ void begin_sums(float (&sums)[Right::columns / 8][4],
                                           const uint32_t (&left)[Right::rows / 16][4], const Right& right) {
#pragma unroll
  for (int i = begin / 16; i < end / 16; i++) add_product(sums, left[i], describe_rows(right, i * 16));
  commit_products();
}

// Of all of them.
template <class Right>
__device__ __forceinline__ void begin_sums(float (&sums)[Right::columns / 8][4],
                                           const uint32_t (&left)[Right::rows / 16][4], const Right& right) {
  begin_sums<0, Right::rows>(sums, left, right);
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
