// δ[a, t] = Σ_d dout[t, a·D + d] · out[t, a·D + d], which all of attention's backward ways begin with.
//
// out, dout: [T, A·D], bf16 or f32; δ: [A, T] f32. A warp has a row of a head. Bound by reading out and dout once.
#include "kernels/attention_delta.h"
#include "kernels/attention_rows.h"

namespace llama_tp::kernels {

namespace {

constexpr int warps = 8;

// grid: tokens, parts of the heads
template <class Row, class X>
__global__ void __launch_bounds__(warps* warp_size)
    attention_delta_kernel(const X* dout, const X* out, float* delta, AttentionShape shape) {
  const int64_t token = blockIdx.x, head = int64_t{blockIdx.y} * warps + warp_of_block();
  if (head >= shape.heads) return;
  const int64_t first = (token * shape.heads + head) * shape.head_dim;
  const float sum = Row(dout + first, shape.head_dim).dot(Row(out + first, shape.head_dim));
  if (lane_of_warp() == 0) delta[head * shape.tokens + token] = sum;
}

}  // namespace

template <class X>
void attention_delta(Stream stream, const AttentionOutputs<X>& outputs, float* delta, const AttentionShape& shape) {
  with_row(shape.head_dim, [&]<class Row>() {
    launch(stream, "attention_delta", grid_of("attention", shape.tokens, ceil_div(shape.heads, warps)),
           warps * warp_size, 0, attention_delta_kernel<Row, X>, outputs.dout, outputs.out, delta, shape);
  });
}

template void attention_delta(Stream, const AttentionOutputs<float>&, float*, const AttentionShape&);
template void attention_delta(Stream, const AttentionOutputs<bf16>&, float*, const AttentionShape&);

}  // namespace llama_tp::kernels
