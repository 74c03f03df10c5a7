// A row of a head's elements shared by the lanes of a warp, and how warps are given heads. Included by the kernels that
// take a warp a query or key.
#pragma once

#include "kernels/attention.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

// Lane l has elements l, l + 32, …: n of them, 0 where the row has ended.
template <int n>
struct Row {
  float of[n] = {};

  __device__ __forceinline__ Row() {}
  template <class X>
  __device__ __forceinline__ Row(const X* from, int64_t dim) {
#pragma unroll
    for (int i = 0; i < n; i++)
      if (lane_of_warp() + i * warp_size < dim) of[i] = widened(from[lane_of_warp() + i * warp_size]);
  }
  template <class X>
  __device__ __forceinline__ void store(X* to, int64_t dim) const {
#pragma unroll
    for (int i = 0; i < n; i++)
      if (lane_of_warp() + i * warp_size < dim) to[lane_of_warp() + i * warp_size] = rounded<X>(of[i]);
  }
  // In all lanes.
  __device__ __forceinline__ float dot(const Row& other) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < n; i++) sum = fmaf(of[i], other.of[i], sum);
    return warp_sum(sum);
  }
  __device__ __forceinline__ void add(float factor, const Row& other) {
#pragma unroll
    for (int i = 0; i < n; i++) of[i] = fmaf(factor, other.of[i], of[i]);
  }
  __device__ __forceinline__ void scale(float factor) {
#pragma unroll
    for (int i = 0; i < n; i++) of[i] *= factor;
  }
};

// Calls start.operator()<n>() with the n that a row needs. Errors: a head size beyond 256.
template <class Start>
void with_row(int64_t head_dim, const Start& start) {
  require(head_dim >= 1 && head_dim <= 256, "attention: heads of ", head_dim, "; 1 to 256 are known");
  if (head_dim <= 32)
    start.template operator()<1>();
  else if (head_dim <= 64)
    start.template operator()<2>();
  else if (head_dim <= 128)
    start.template operator()<4>();
  else
    start.template operator()<8>();
}

// The warps of a block are heads of one group, so that they read the same keys at about the same time; up to eight, of
// a larger group several blocks.
constexpr int64_t most_heads = 8;
__host__ __device__ __forceinline__ int64_t heads_a_block(const AttentionShape& shape) {
  return smaller(shape.heads / shape.kv_heads, most_heads);
}
__host__ __device__ __forceinline__ int64_t blocks_a_group(const AttentionShape& shape) {
  return parts_of(shape.heads / shape.kv_heads, heads_a_block(shape));
}
inline unsigned blocks_of_heads(const AttentionShape& shape) {
  return grid_axis(shape.kv_heads * blocks_a_group(shape), "attention");
}
inline int threads_of_heads(const AttentionShape& shape) { return static_cast<int>(heads_a_block(shape)) * warp_size; }

struct HeadOfWarp {
  int64_t number, kv;
  bool exists;

  __device__ __forceinline__ explicit HeadOfWarp(const AttentionShape& shape) {
    const int64_t group = shape.heads / shape.kv_heads;
    const int64_t within = blockIdx.y % blocks_a_group(shape) * heads_a_block(shape) + warp_of_block();
    kv = blockIdx.y / blocks_a_group(shape);
    number = kv * group + within;
    exists = within < group;
  }
};

}  // namespace llama_tp::kernels
