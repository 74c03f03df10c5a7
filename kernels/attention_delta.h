// δ[a, t] = Σ_d dout[t, a·D + d] · out[t, a·D + d], which both of attention's backward ways begin with: [A, T] f32.
#pragma once

#include "kernels/attention_rows.h"

namespace llama_tp::kernels {

constexpr int delta_warps = 8;

// A warp a head. grid: tokens, parts of the heads
template <class Row, class X>
__global__ void __launch_bounds__(delta_warps* warp_size)
    attention_delta_kernel(const X* dout, const X* out, float* delta, AttentionShape shape) {
  const int64_t token = blockIdx.x, head = int64_t{blockIdx.y} * delta_warps + warp_of_block();
  if (head >= shape.heads) return;
  const int64_t first = (token * shape.heads + head) * shape.head_dim;
  const float sum = Row(dout + first, shape.head_dim).dot(Row(out + first, shape.head_dim));
  if (lane_of_warp() == 0) delta[head * shape.tokens + token] = sum;
}

inline int64_t delta_bytes(const AttentionShape& shape) {
  return shape.heads * shape.tokens * static_cast<int64_t>(sizeof(float));
}

template <class X>
void attention_delta(Stream stream, const AttentionSaved<X>& saved, float* delta, const AttentionShape& shape) {
  with_row(shape.head_dim, [&]<class Row>() {
    launch(stream, "attention_delta",
           {grid_axis(shape.tokens, "attention"), grid_axis(parts_of(shape.heads, delta_warps), "attention")},
           delta_warps * warp_size, 0, attention_delta_kernel<Row, X>, saved.dout, saved.out, delta, shape);
  });
}

}  // namespace llama_tp::kernels
