// What attention's kernels share: which rows a block has, which keys a query sees, and softmax's constants.
#pragma once

#include "kernels/kernels.h"
#include "kernels/ptx.h"

namespace llama_tp::kernels {

struct Range {
  int begin, end;
};

// A row of backend.h's Sequences.
struct Sequence {
  int first_query, queries, first_key, keys;

  // The keys that a query sees, both counted within the sequence.
  __device__ Range visible(int query, int64_t window) const {
    const int64_t end = larger(keys - queries + query + 1, 0);
    return {static_cast<int>(window > 0 ? larger(end - window, 0) : 0), static_cast<int>(end)};
  }
  // The queries that see any of the keys [begin, end).
  __device__ Range viewers(int begin, int end, int64_t window) const {
    const int64_t first = larger(begin - (keys - queries), 0);
    const int64_t last = window > 0 ? smaller(end - 1 + window - (keys - queries), queries) : queries;
    return {static_cast<int>(first), static_cast<int>(larger(first, last))};
  }
};

__device__ __forceinline__ Sequence sequence_at(const int32_t* ranges, int64_t index) {
  const int32_t* row = ranges + index * 4;
  return {row[0], row[1], row[2], row[3]};
}

// ---- the tile of rows that a block has

// Queries, or keys, are cut into tiles of so many rows, each of one sequence, and a block has a place among them. The tiles
// of sequence s, whose n rows begin at f, have the places s + ⌊f / rows⌋ and on. Sequences ascend from row 0, and
// ⌈n / rows⌉ ≤ ⌊(f + n) / rows⌋ − ⌊f / rows⌋ + 1, so there is room for all tiles of one in front of the next, at most one
// place of each has no tile, and whose a place is can be told without counting the tiles ahead of it. Of tiles of 64 rows,
// and sequences of 100 and 30 rows, the first has places 0 and 1; the second begins at row 100, and so has place
// 1 + ⌊100 / 64⌋ = 2.
enum class Side { queries, keys };

// All heads of one place come before the next place, so that blocks come longest first: the last queries see the most
// keys, and the first keys are seen by the most queries. And heads that read the same keys from the L2 cache come together.
// Place z · gridDim.y + y, of queries counted from the last, is a block's; gridDim.z is 1 unless y cannot count so many,
// and then at most gridDim.z − 1 blocks have no place.
template <Side side>
dim3 grid_of_tiles(const AttentionShape& shape, int rows) {
  const bool of_queries = side == Side::queries;
  const int64_t places = (of_queries ? shape.tokens : shape.cache) / rows + shape.sequences;
  const int64_t z = ceil_div(places, most_blocks_on_y);
  return grid_of("attention", of_queries ? shape.heads : shape.kv_heads, ceil_div(places, larger(z, 1)), z);
}

struct HeldTile {
  Sequence sequence;
  int first;  // row, counted within the sequence; not below its number of rows where the place has no tile
};

// The block's. A search by each warp for itself: its lanes try sequences `step` apart, the last one that begins at or ahead
// of the place is found, then those behind it within this step are tried. There is one sequence at least.
template <Side side>
__device__ __forceinline__ HeldTile held_tile(const AttentionShape& shape, int rows) {
  const uint32_t forth = blockIdx.z * gridDim.y + blockIdx.y;
  const int place = static_cast<int>(side == Side::queries ? gridDim.z * gridDim.y - 1 - forth : forth);
  const int32_t* const first_rows = shape.ranges + (side == Side::queries ? 0 : 2);
  const auto first_place = [&](uint32_t s) { return static_cast<int>(s) + first_rows[int64_t{s} * 4] / rows; };
  const auto sequences = static_cast<uint32_t>(shape.sequences);
  uint32_t found = 0;
  for (uint32_t step = sequences; step > 1;) {
    step = (step + warp_size - 1) / warp_size;
    const uint32_t tried = found + static_cast<uint32_t>(lane_of_warp()) * step;
    found = largest_of_lanes(tried < sequences && first_place(tried) <= place ? tried : found);
  }
  return {sequence_at(shape.ranges, found), (place - first_place(found)) * rows};
}

// ---- what is hidden from a row

// Replaces what a warp's sixteen rows of sums (kernels/tiles.h) have of columns that their rows do not see. seen(row) is
// the range of columns that a row sees, of which neither end falls from one row to the next.
template <int parts, class Seen>
__device__ __forceinline__ void replace_hidden(float (&sums)[parts][4], float value, int first_row, int first_column,
                                               const Seen& seen) {
  const bool all_seen = seen(first_row).end >= first_column + 8 * parts && seen(first_row + 15).begin <= first_column;
  if (all_seen) return;
  const int lane = lane_of_warp(), own_column = first_column + lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const Range columns = seen(first_row + lane / 4 + 8 * half);
    const int begin = columns.begin - own_column, end = columns.end - own_column;
    for (int j = 0; j < parts; j++)
      for (int i = 0; i < 2; i++)
        if (8 * j + i < begin || 8 * j + i >= end) sums[j][2 * half + i] = value;
  }
}

constexpr float log_of_2 = 0.69314718f;
// Softmax's running maximum starts here rather than at −∞, whose difference from itself is not a number.
constexpr float lowest_score = -1e30f;
constexpr float minus_infinity = -__builtin_huge_valf();

// Errors: a scale that would turn the order of scores, whose largest is found ahead of it.
inline void require_positive_scale(const AttentionOptions& options) {
  require(options.scale > 0, "attention: a scale of ", options.scale, "; it must be positive");
}

// Calls start.operator()<head_dim>() for the sizes that have_tiles. Errors: another size.
template <class Start>
void with_head_dim(int64_t head_dim, const Start& start) {
  switch (head_dim) {
    case 16:
      return start.template operator()<16>();
    case 32:
      return start.template operator()<32>();
    case 64:
      return start.template operator()<64>();
    case 80:
      return start.template operator()<80>();
    case 96:
      return start.template operator()<96>();
    case 128:
      return start.template operator()<128>();
    default:
      fail("attention: no tiles for heads of ", head_dim, "; 16, 32, 64, 80, 96 and 128 have them");
  }
}

}  // namespace llama_tp::kernels
