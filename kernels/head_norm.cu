// Norms of the heads of q and k in packed qkv [T, (A + 2G)·D] (Qwen3); v passes through. Of each head:
//
//   forward:   y = x / sqrt(mean(x²) + ε) · w                                            (Zhang & Sennrich 2019)
//   backward:  with x̂ = x / rms, g = dy · w:  dx = (g − x̂ · mean(g · x̂)) / rms,  dw += Σ dy · x̂
//
// w: [D], one for the heads of q, one for those of k; dw: [D] f32. A warp takes a head, whose D ≤ 256 values lie in its
// lanes' registers. In backward a block takes 32 tokens; its warps add their heads' dw in registers, in order, then one
// another's in order, and a second kernel the blocks'. Bound by memory: reads 1 (backward 2) and writes 1 value an
// element.
#include "kernels/kernels.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int warps = 8, threads = warps * warp_size, largest_head = 256, values_a_lane = largest_head / warp_size;
constexpr int64_t tokens_a_block = 32;

// A head's values, lane by lane: element i · 32 + lane is values[i].
struct Head {
  float values[values_a_lane];

  template <class X>
  __device__ __forceinline__ Head(const X* from, int64_t dim) {
#pragma unroll
    for (int i = 0; i < values_a_lane; i++) values[i] = at(i) < dim ? widened(from[at(i)]) : 0.0f;
  }
  template <class X>
  __device__ __forceinline__ void write(X* to, int64_t dim) const {
#pragma unroll
    for (int i = 0; i < values_a_lane; i++)
      if (at(i) < dim) to[at(i)] = rounded<X>(values[i]);
  }
  static __device__ __forceinline__ int at(int i) { return i * warp_size + lane_of_warp(); }
};

__device__ __forceinline__ float dot(const Head& a, const Head& b) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < values_a_lane; i++) sum = fmaf(a.values[i], b.values[i], sum);
  return warp_sum(sum);
}

__device__ __forceinline__ float inverse_rms(const Head& x, const HeadNormShape& shape) {
  return 1.0f / sqrtf(dot(x, x) / static_cast<float>(shape.head_dim) + shape.epsilon);
}

template <class X>
__global__ void head_norm_forward_kernel(const X* qkv, HeadNormWeights<X> weights, HeadNormShape shape, X* y) {
  const int64_t all = shape.heads + 2 * shape.kv_heads, dim = shape.head_dim;
  for (int64_t head = warp_of_block(); head < all; head += warps) {
    const int64_t first = (blockIdx.x * all + head) * dim;
    Head x(qkv + first, dim);
    if (head < shape.heads + shape.kv_heads) {
      const Head w(head < shape.heads ? weights.q : weights.k, dim);
      const float scale = inverse_rms(x, shape);
      for (int i = 0; i < values_a_lane; i++) x.values[i] = x.values[i] * scale * w.values[i];
    }
    x.write(y + first, dim);
  }
}

struct HeadNormScratch {
  float sums[warps][2][largest_head];  // of each warp, for q and k
};

template <class X>
__global__ void head_norm_backward_kernel(const X* qkv, HeadNormWeights<X> weights, HeadNormShape shape, X* dqkv,
                                          float* partial_q, float* partial_k, int64_t tokens) {
  auto& scratch = shared_memory<HeadNormScratch>();
  const int64_t all = shape.heads + 2 * shape.kv_heads, normed = shape.heads + shape.kv_heads, dim = shape.head_dim;
  const int64_t begin = blockIdx.x * tokens_a_block, end = smaller(begin + tokens_a_block, tokens);
  float sums[2][values_a_lane] = {};
  for (int64_t t = begin; t < end; t++)
    for (int64_t head = warp_of_block(); head < normed; head += warps) {
      const int which = head < shape.heads ? 0 : 1;
      const int64_t first = (t * all + head) * dim;
      Head x(qkv + first, dim), g(dqkv + first, dim);
      const Head w(which == 0 ? weights.q : weights.k, dim);
      const float scale = inverse_rms(x, shape);
      for (int i = 0; i < values_a_lane; i++) {
        x.values[i] *= scale;
        const float added = g.values[i] * x.values[i];
        sums[0][i] += which == 0 ? added : 0.0f;
        sums[1][i] += which == 1 ? added : 0.0f;
        g.values[i] *= w.values[i];
      }
      const float mean = dot(g, x) / static_cast<float>(dim);
      for (int i = 0; i < values_a_lane; i++) g.values[i] = scale * (g.values[i] - x.values[i] * mean);
      g.write(dqkv + first, dim);
    }
  for (int which = 0; which < 2; which++)
    for (int i = 0; i < values_a_lane; i++) scratch.sums[warp_of_block()][which][Head::at(i)] = sums[which][i];
  __syncthreads();
  for (int64_t column = threadIdx.x; column < dim; column += threads)
    for (int which = 0; which < 2; which++) {
      float sum = 0;
      for (int warp = 0; warp < warps; warp++) sum += scratch.sums[warp][which][column];
      (which == 0 ? partial_q : partial_k)[blockIdx.x * dim + column] = sum;
    }
}

void require_head_fits(const HeadNormShape& shape) {
  require(shape.head_dim <= largest_head, "cuda: head_norm: heads of ", shape.head_dim, " are larger than ",
          largest_head, ", the most that this kernel holds in registers; use --backend cpu");
}

}  // namespace

template <class X>
void head_norm_forward(Stream stream, const X* qkv, const HeadNormWeights<X>& weights, const HeadNormShape& shape, X* y,
                       int64_t tokens) {
  require_head_fits(shape);
  launch(stream, "head_norm_forward", {grid_axis(tokens, "head_norm")}, threads, 0, head_norm_forward_kernel<X>, qkv,
         weights, shape, y);
}

int64_t head_norm_backward_workspace(const HeadNormShape& shape, int64_t tokens) {
  return parts_of(tokens, tokens_a_block) * 2 * shape.head_dim * static_cast<int64_t>(sizeof(float));
}

template <class X>
void head_norm_backward(Stream stream, const X* qkv, const HeadNormWeights<X>& weights, const HeadNormShape& shape,
                        X* dqkv, float* dq, float* dk, int64_t tokens, void* workspace) {
  require_head_fits(shape);
  const int64_t blocks = parts_of(tokens, tokens_a_block);
  float* const partial_q = static_cast<float*>(workspace);
  float* const partial_k = partial_q + blocks * shape.head_dim;
  launch(stream, "head_norm_backward", {grid_axis(blocks, "head_norm")}, threads, sizeof(HeadNormScratch),
         head_norm_backward_kernel<X>, qkv, weights, shape, dqkv, partial_q, partial_k, tokens);
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
