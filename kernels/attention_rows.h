// A row of a head's elements shared by the lanes of a warp, and how warps are given heads. Included by the kernels that
// take a warp a query, a key or any head.
#pragma once

#include "kernels/attention.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

// Lane l has the n elements from (l mod lanes) · n on, 0 where the row has ended. `whole`: rows are multiples of n
// elements, which are then loaded and stored at once. Fewer lanes than a warp's have a row each.
template <int n, bool whole, int lanes_ = warp_size>
struct Row {
  static constexpr int lanes = lanes_, elements = n * lanes;  // the most

  // As it lies in memory. Where several are loaded before the first is used they must be of this kind: to widen one is
  // to wait for it.
  template <class X>
  struct Packed {
    static constexpr int pieces = whole ? 1 : n, width = n / pieces;
    kernels::Packed<width, X> of[pieces] = {};

    Packed() = default;
    __device__ __forceinline__ Packed(const X* from, int64_t dim) {
#pragma unroll
      for (int i = 0; i < pieces; i++)
        if (first() + i < dim) of[i] = kernels::Packed<width, X>(from + first() + i);
    }
  };

  float of[n] = {};

  __device__ __forceinline__ Row() {}
  template <class X>
  __device__ __forceinline__ explicit Row(const Packed<X>& packed) {
#pragma unroll
    for (int i = 0; i < Packed<X>::pieces; i++) {
      float values[Packed<X>::width];
      packed.of[i].unpack(values);
      for (int j = 0; j < Packed<X>::width; j++) of[i * Packed<X>::width + j] = values[j];
    }
  }
  template <class X>
  __device__ __forceinline__ Row(const X* from, int64_t dim) : Row(Packed<X>(from, dim)) {}
  // By the first of the warp's lanes.
  template <class X>
  __device__ __forceinline__ void write(X* to, int64_t dim) const {
    if (lane_of_warp() >= lanes) return;
    if constexpr (whole) {
      if (first() < dim) store(to + first(), of);
    } else {
#pragma unroll
      for (int i = 0; i < n; i++)
        if (first() + i < dim) to[first() + i] = rounded<X>(of[i]);
    }
  }
  // In all lanes of the row.
  __device__ __forceinline__ float dot(const Row& other) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < n; i++) sum = fmaf(of[i], other.of[i], sum);
    return warp_sum<lanes>(sum);
  }
  __device__ __forceinline__ void add(float factor, const Row& other) {
#pragma unroll
    for (int i = 0; i < n; i++) of[i] = fmaf(factor, other.of[i], of[i]);
  }
  __device__ __forceinline__ void multiply(const Row& other) {
#pragma unroll
    for (int i = 0; i < n; i++) of[i] *= other.of[i];
  }
  // Of the lanes whose numbers differ in the bits of `mask`.
  __device__ __forceinline__ Row exchanged(int mask) const {
    Row row;
#pragma unroll
    for (int i = 0; i < n; i++) row.of[i] = exchange(of[i], mask);
    return row;
  }
  __device__ __forceinline__ void scale(float factor) {
#pragma unroll
    for (int i = 0; i < n; i++) of[i] *= factor;
  }

 private:
  static __device__ __forceinline__ int first() { return lane_of_warp() % lanes * n; }
};

// Calls start.operator()<Row<n, whole>>() with the n that a row needs. Errors: a head size beyond 256.
template <class Start>
void with_row(int64_t head_dim, const Start& start) {
  require(head_dim >= 1 && head_dim <= 256, "attention: heads of ", head_dim, "; 1 to 256 are known");
  const auto with = [&]<int n>() {
    if constexpr (n > 1)
      if (head_dim % n != 0) return start.template operator()<Row<n, false>>();
    start.template operator()<Row<n, true>>();
  };
  if (head_dim <= 32)
    with.template operator()<1>();
  else if (head_dim <= 64)
    with.template operator()<2>();
  else if (head_dim <= 128)
    with.template operator()<4>();
  else
    with.template operator()<8>();
}

// The warps of a block are heads of one group, so that they read the same keys at about the same time; up to eight, of
// a larger group several blocks.
constexpr int64_t most_heads = 8;
__host__ __device__ __forceinline__ int64_t heads_a_block(const AttentionShape& shape) {
  return smaller(shape.heads / shape.kv_heads, most_heads);
}
__host__ __device__ __forceinline__ int64_t blocks_a_group(const AttentionShape& shape) {
  return ceil_div(shape.heads / shape.kv_heads, heads_a_block(shape));
}
inline int64_t blocks_of_heads(const AttentionShape& shape) { return shape.kv_heads * blocks_a_group(shape); }
// Sequences lie on z: calls start(shape) with as many as fit there each time.
template <class Start>
void with_grids_of_sequences(const AttentionShape& shape, const Start& start) {
  for (int64_t first = 0; first < shape.sequences; first += most_blocks_on_z) {
    AttentionShape some = shape;
    some.ranges += 4 * first;
    some.sequences = smaller(most_blocks_on_z, shape.sequences - first);
    start(some);
  }
}
inline int threads_of_heads(const AttentionShape& shape) { return static_cast<int>(heads_a_block(shape)) * warp_size; }

// The index-th head of a block; where it does not exist the last of the group.
struct HeadOfGroup {
  int64_t number, kv;
  bool exists;

  __device__ __forceinline__ HeadOfGroup(const AttentionShape& shape, int index) {
    const int64_t group = shape.heads / shape.kv_heads;
    const int64_t within = blockIdx.y % blocks_a_group(shape) * heads_a_block(shape) + index;
    kv = blockIdx.y / blocks_a_group(shape);
    exists = index < heads_a_block(shape) && within < group;
    number = kv * group + smaller(within, group - 1);
  }
};
struct HeadOfWarp : HeadOfGroup {
  __device__ __forceinline__ explicit HeadOfWarp(const AttentionShape& shape) : HeadOfGroup(shape, warp_of_block()) {}
};

}  // namespace llama_tp::kernels
