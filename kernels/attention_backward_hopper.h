// What both passes of attention_backward_hopper.cu share: pairs of tiles that are held and that come past, and what is
// done with each score.
#pragma once

#include "kernels/attention_hopper.h"

namespace llama_tp::kernels {

// That come past.
constexpr int tile_queries = 64, tile_keys = 128;

struct BackwardCall {
  AttentionShape shape;
  AttentionOptions options;
  float scale_of_powers;  // of two
  const float *lse, *delta;
  AttentionGradients<bf16> gradients;
};

struct BackwardMaps {
  TensorMap q, dout, k, v;
};

// Of boxes of 64 rows of q and dout, and of key_rows rows of k and v. dout's heads lie beside each other: one wide head.
inline BackwardMaps maps_of(const AttentionInputs<bf16>& inputs, const bf16* dout, const AttentionShape& shape,
                            int key_rows) {
  return {map_of_heads(inputs.q, shape.heads, shape.tokens, shape.head_dim, rows_a_consumer),
          map_of_heads(dout, 1, shape.tokens, shape.heads * shape.head_dim, rows_a_consumer),
          map_of_heads(inputs.k, shape.kv_heads, shape.cache, shape.head_dim, key_rows),
          map_of_heads(inputs.v, shape.kv_heads, shape.cache, shape.head_dim, key_rows)};
}

// That are held, and those that come past.
template <int head_dim, int rows, int first_stages, int second_stages>
struct HopperBackwardTiles {
  SwizzledTile<rows_a_consumer, head_dim> first[consumers], second[consumers];          // q, dout; or k, v
  SwizzledTile<rows, head_dim> other_first[first_stages], other_second[second_stages];  // k, v; or q, dout
  MemoryBarrier held_full, landed;
};

// ---- the warp that brings the tiles

struct RowPair {
  Rows first, second;
};
__device__ __forceinline__ RowPair queries_at(const BackwardMaps& maps, int head, int token, int head_dim) {
  return {{maps.q, token, head}, {maps.dout, token, 0, head * head_dim}};
}
__device__ __forceinline__ RowPair keys_at(const BackwardMaps& maps, int kv_head, int row) {
  return {{maps.k, row, kv_head}, {maps.v, row, kv_head}};
}

template <class Tiles>
__device__ __forceinline__ void bring_held(Tiles& tiles, const RowPair& rows) {
  if (lane_of_warp() != 0) return;
  arrive_and_expect(tiles.held_full, 2 * consumers * tiles.first[0].bytes);
  copy_held(tiles.first, rows.first, tiles.held_full);
  copy_held(tiles.second, rows.second, tiles.held_full);
}

// The tiles of keys that some queries see, in the order in which they come.
struct KeyTiles {
  int key, end;

  __device__ __forceinline__ explicit KeyTiles(const Range& keys) : key(keys.begin), end(keys.end) {}
  __device__ __forceinline__ bool is_left() const { return key < end; }
  __device__ __forceinline__ void advance() { key += tile_keys; }
};

// The tiles of queries that see some keys: those of a head, then of the next of the group.
struct QueryTiles {
  Range queries;
  int heads, head = 0, query;

  __device__ __forceinline__ QueryTiles(const Range& of_a_head, int of_heads)
      : queries(of_a_head), heads(of_heads), query(of_a_head.begin) {}
  __device__ __forceinline__ bool is_left() const { return head < heads; }
  __device__ __forceinline__ void advance() {
    query += tile_queries;
    if (query < queries.end) return;
    query = queries.begin;
    head++;
  }
};

// The numbers of a tile's queries, two a lane, on their way while its place in the ring is in use.
struct Statistics {
  float lse[tile_queries / warp_size], delta[tile_queries / warp_size];

  // From here on; what does not exist repeats the last.
  __device__ __forceinline__ Statistics(const BackwardCall& call, int64_t from, int exist) {
    for (int i = 0; i < tile_queries / warp_size; i++) {
      const int64_t at = from + smaller(lane_of_warp() + i * warp_size, exist - 1);
      lse[i] = call.lse[at] * log2_of_e;
      delta[i] = call.delta[at];
    }
  }
  __device__ __forceinline__ void store(float (&to_lse)[tile_queries], float (&to_delta)[tile_queries]) const {
    for (int i = 0; i < tile_queries / warp_size; i++) {
      to_lse[lane_of_warp() + i * warp_size] = lse[i];
      to_delta[lane_of_warp() + i * warp_size] = delta[i];
    }
    __syncwarp();
  }
};

// ---- the warpgroups that compute. s: scores, then P; ds: dout·v, then dS. Parts and elements as in kernels/tiles.h.

template <int parts, class Lse>
__device__ __forceinline__ void exponentials(float (&s)[parts][4], float scale, const Lse& lse) {
#pragma unroll
  for (int j = 0; j < parts; j++)
    for (int i = 0; i < 4; i++) s[j][i] = power_of_two(s[j][i] * scale - lse(j, i));
}

template <int parts, class Delta>
__device__ __forceinline__ void gradients_of_scores(float (&ds)[parts][4], const float (&p)[parts][4],
                                                    const Delta& delta) {
#pragma unroll
  for (int j = 0; j < parts; j++)
    for (int i = 0; i < 4; i++) ds[j][i] = p[j][i] * (ds[j][i] - delta(j, i));
}

template <int parts>
__device__ __forceinline__ void scale_by(float (&sums)[parts][4], float factor) {
#pragma unroll
  for (int j = 0; j < parts; j++)
    for (int i = 0; i < 4; i++) sums[j][i] *= factor;
}

}  // namespace llama_tp::kernels
