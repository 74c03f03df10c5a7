// Norms of the heads of q and k in packed qkv [T, (A + 2G)·D] (Qwen3); v passes through. Of each head:
//
//   forward:   y = x / sqrt(mean(x²) + ε) · w                                            (Zhang & Sennrich 2019)
//   backward:  with x̂ = x / rms, g = dy · w:  dx = (g − x̂ · mean(g · x̂)) / rms,  dw += Σ dy · x̂
//
// w: [D], one for the heads of q, one for those of k; dw: [D] f32. A warp takes a head, whose D ≤ 256 values lie in its
// lanes' registers, and reads four before it uses the first. In backward a block takes neighbouring tokens, so many of
// them that there are at most 256 blocks; its warps add their heads' dw in registers, in order, then one another's in
// order, and a second kernel the blocks'. Bound by memory: reads 1 (backward 2) and writes 1 value an element.
#include "kernels/attention_rows.h"
#include "kernels/workspace.h"

namespace llama_tp::kernels {

namespace {

constexpr int warps = 8, threads = warps * warp_size, heads_at_once = 4;

template <class Row>
__device__ __forceinline__ float inverse_rms(const Row& x, const HeadNormShape& shape) {
  return 1.0f / sqrtf(x.dot(x) / static_cast<float>(shape.head_dim) + shape.epsilon);
}

template <class Row, class X>
__global__ void __launch_bounds__(threads)
    head_norm_forward_kernel(const X* qkv, HeadNormWeights<X> weights, HeadNormShape shape, X* y) {
  begin_behind_grids_ahead();
  const int all = static_cast<int>(shape.heads + 2 * shape.kv_heads);
  const int64_t dim = shape.head_dim, token = int64_t{blockIdx.x} * all * dim;
  const Row of_q(weights.q, dim), of_k(weights.k, dim);
  for (int first = warp_of_block(); first < all; first += warps * heads_at_once) {
    typename Row::template Packed<X> heads[heads_at_once];
#pragma unroll
    for (int i = 0; i < heads_at_once; i++)
      if (first + i * warps < all) heads[i] = {qkv + token + (first + i * warps) * dim, dim};
#pragma unroll
    for (int i = 0; i < heads_at_once; i++) {
      const int head = first + i * warps;
      if (head >= all) break;
      Row x(heads[i]);
      if (head < shape.heads + shape.kv_heads) {
        x.scale(inverse_rms(x, shape));
        if (head < shape.heads)
          x.multiply(of_q);
        else
          x.multiply(of_k);
      }
      x.write(y + token + head * dim, dim);
    }
  }
}

template <class Row>
struct HeadNormScratch {
  float sums[warps][2][Row::elements];  // of each warp, for q and k
};

template <class Row, class X>
__global__ void __launch_bounds__(threads)
    head_norm_backward_kernel(const X* qkv, HeadNormWeights<X> weights, HeadNormShape shape, X* dqkv, float* partial_q,
                              float* partial_k, int64_t tokens, int64_t own_tokens) {
  auto& scratch = shared_memory<HeadNormScratch<Row>>();
  const int64_t all = shape.heads + 2 * shape.kv_heads, dim = shape.head_dim;
  const int64_t begin = blockIdx.x * own_tokens, end = smaller(begin + own_tokens, tokens);
  const int normed = static_cast<int>(shape.heads + shape.kv_heads), count = static_cast<int>(end - begin) * normed;
  const auto place_of = [&](int i) { return ((begin + i / normed) * all + i % normed) * dim; };
  const Row of_q(weights.q, dim), of_k(weights.k, dim);
  Row sum_q, sum_k;
  for (int first = warp_of_block(); first < count; first += warps * heads_at_once) {
    typename Row::template Packed<X> heads[heads_at_once], gradients[heads_at_once];
#pragma unroll
    for (int i = 0; i < heads_at_once; i++) {
      if (first + i * warps >= count) break;
      const int64_t place = place_of(first + i * warps);
      heads[i] = {qkv + place, dim}, gradients[i] = {dqkv + place, dim};
    }
#pragma unroll
    for (int i = 0; i < heads_at_once; i++) {
      if (first + i * warps >= count) break;
      const bool is_q = (first + i * warps) % normed < shape.heads;
      Row x(heads[i]), g(gradients[i]);
      const float scale = inverse_rms(x, shape);
      x.scale(scale);
      Row dw = g;
      dw.multiply(x);
      if (is_q)
        sum_q.add(1, dw), g.multiply(of_q);
      else
        sum_k.add(1, dw), g.multiply(of_k);
      g.add(-g.dot(x) / static_cast<float>(dim), x);
      g.scale(scale);
      g.write(dqkv + place_of(first + i * warps), dim);
    }
  }
  sum_q.write(scratch.sums[warp_of_block()][0], Row::elements);
  sum_k.write(scratch.sums[warp_of_block()][1], Row::elements);
  __syncthreads();
  for (int64_t column = threadIdx.x; column < dim; column += threads)
    for (int which = 0; which < 2; which++) {
      float sum = 0;
      for (int warp = 0; warp < warps; warp++) sum += scratch.sums[warp][which][column];
      (which == 0 ? partial_q : partial_k)[blockIdx.x * dim + column] = sum;
    }
}

}  // namespace

template <class X>
void head_norm_forward(Stream stream, const X* qkv, const HeadNormWeights<X>& weights, const HeadNormShape& shape, X* y,
                       int64_t tokens) {
  with_row(shape.head_dim, [&]<class Row>() {
    launch_early(stream, "head_norm_forward", grid_of("head_norm", tokens), threads, 0,
                 head_norm_forward_kernel<Row, X>, qkv, weights, shape, y);
  });
}

template <class X>
void head_norm_backward(Stream stream, const X* qkv, const HeadNormWeights<X>& weights, const HeadNormShape& shape,
                        X* dqkv, float* dq, float* dk, int64_t tokens, void* workspace) {
  const int64_t blocks = token_blocks(tokens);
  float* const partial_q = static_cast<float*>(workspace);
  float* const partial_k = partial_q + blocks * shape.head_dim;
  with_row(shape.head_dim, [&]<class Row>() {
    launch(stream, "head_norm_backward", grid_of("head_norm", blocks), threads, sizeof(HeadNormScratch<Row>),
           head_norm_backward_kernel<Row, X>, qkv, weights, shape, dqkv, partial_q, partial_k, tokens,
           tokens_a_block(tokens));
  });
  bias_backward(stream, static_cast<const float*>(partial_q), dq, blocks, shape.head_dim);
  bias_backward(stream, static_cast<const float*>(partial_k), dk, blocks, shape.head_dim);
}

template void head_norm_forward(Stream, const float*, const HeadNormWeights<float>&, const HeadNormShape&, float*,
                                int64_t);
template void head_norm_forward(Stream, const bf16*, const HeadNormWeights<bf16>&, const HeadNormShape&, bf16*,
                                int64_t);
template void head_norm_backward(Stream, const float*, const HeadNormWeights<float>&, const HeadNormShape&, float*,
                                 float*, float*, int64_t, void*);
template void head_norm_backward(Stream, const bf16*, const HeadNormWeights<bf16>&, const HeadNormShape&, bf16*, float*,
                                 float*, int64_t, void*);

}  // namespace llama_tp::kernels
