// Norms, backward. With x̂ = (x − mean) · scale and g = dy · w (layer_norm_1p: dy · (1 + w)):
//
//   dx += scale · (g − mean(g) − x̂ · mean(g · x̂))          without mean(g) for rms
//   dw += Σ_t dy · x̂        db += Σ_t dy
//
// dy, x, dx: [T, H]; dw, db: [H] f32. A block takes 32 rows in order and sums their dw and db in a row of the
// workspace, [T/32, H] f32 or twice that, which stays in the L2 cache: a thread adds to no other's columns. A second
// kernel adds the blocks' rows in order. So the order of every sum is fixed. Bound by memory: reads 3 and writes 1
// value an element.
#include "kernels/norm.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;
constexpr int64_t rows_a_block = 32;

int64_t blocks_of(int64_t tokens) { return parts_of(tokens, rows_a_block); }

struct NormBackwardScratch {
  WarpValues<float> with_x[2], with_one[2];  // of one row and the next: a barrier between them then serves both
};

// Sums over a row of g · x̂ and of g, for its means.
struct RowSums {
  float with_x = 0, with_one = 0;
};

// n elements of a row and what follows from them.
template <int n>
struct Elements {
  float d[n], normalized[n], g[n];

  template <class X>
  __device__ __forceinline__ Elements(const X* dy, const X* x, const NormWeights<X>& weights, RowStatistics row,
                                      int64_t column) {
    float w[n];
    load(d, dy + column);
    load(normalized, x + column);
    load(w, weights.w + column);
    const float one = centers(weights.options) ? 1.0f : 0.0f;
    for (int j = 0; j < n; j++) {
      normalized[j] = (normalized[j] - row.mean) * row.scale;
      g[j] = d[j] * (one + w[j]);
    }
  }
};

template <int n, class X>
__device__ RowSums sums_of_row(const X* dy, const X* x, const NormWeights<X>& weights, RowStatistics row,
                               int64_t hidden) {
  RowSums sums;
  for (int64_t i = threadIdx.x * n; i < hidden; i += threads * n) {
    const Elements<n> at(dy, x, weights, row, i);
    for (int j = 0; j < n; j++) {
      sums.with_x += at.g[j] * at.normalized[j];
      sums.with_one += at.g[j];
    }
  }
  return sums;
}

// sums[column …] = added, or += added.
template <int n>
__device__ __forceinline__ void accumulate(float* sums, int64_t column, const float (&added)[n], bool first) {
  float total[n] = {};
  if (!first) load_floats(total, sums + column);
  for (int j = 0; j < n; j++) total[j] += added[j];
  store_floats(sums + column, total);
}

template <int n, class X>
__global__ void norm_backward_kernel(const X* dy, const X* x, NormWeights<X> weights, const float* statistics, X* dx,
                                     float* partial_dw, float* partial_db, int64_t tokens, int64_t hidden) {
  auto& scratch = shared_memory<NormBackwardScratch>();
  const bool centered = centers(weights.options);
  const int64_t begin = blockIdx.x * rows_a_block, end = smaller(begin + rows_a_block, tokens);
  float* const dw = partial_dw + blockIdx.x * hidden;
  float* const db = partial_db == nullptr ? nullptr : partial_db + blockIdx.x * hidden;
  for (int64_t t = begin; t < end; t++) {
    const X *const row_dy = dy + t * hidden, *const row_x = x + t * hidden;
    const RowStatistics row = saved_statistics(weights.options, statistics, t);
    const RowSums sums = sums_of_row<n>(row_dy, row_x, weights, row, hidden);
    const float mean_x = block_sum(sums.with_x, scratch.with_x[t % 2]) / static_cast<float>(hidden);
    const float mean_one =
        centered ? block_sum(sums.with_one, scratch.with_one[t % 2]) / static_cast<float>(hidden) : 0;
    for (int64_t i = threadIdx.x * n; i < hidden; i += threads * n) {
      const Elements<n> at(row_dy, row_x, weights, row, i);
      float d[n], dw_term[n];
      load(d, dx + t * hidden + i);
      for (int j = 0; j < n; j++) {
        d[j] += row.scale * (at.g[j] - mean_one - at.normalized[j] * mean_x);
        dw_term[j] = at.d[j] * at.normalized[j];
      }
      store(dx + t * hidden + i, d);
      accumulate(dw, i, dw_term, t == begin);
      if (db != nullptr) accumulate(db, i, at.d, t == begin);
    }
  }
}

// total[column] += Σ_block partial[block, column]
__global__ void add_blocks_kernel(const float* partial, int64_t blocks, float* total, int64_t hidden) {
  const int64_t column = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (column >= hidden) return;
  float sum = total[column];
  for (int64_t block = 0; block < blocks; block++) sum += partial[block * hidden + column];
  total[column] = sum;
}

void add_blocks(Stream stream, const float* partial, int64_t blocks, float* total, int64_t hidden) {
  launch(stream, "norm_backward", {grid_axis(parts_of(hidden, threads), "norm")}, threads, 0, add_blocks_kernel,
         partial, blocks, total, hidden);
}

}  // namespace

int64_t norm_backward_workspace(const NormOptions& options, int64_t tokens, int64_t hidden) {
  return blocks_of(tokens) * hidden * (centers(options) ? 2 : 1) * static_cast<int64_t>(sizeof(float));
}

template <class X>
void norm_backward(Stream stream, const X* dy, const X* x, const NormWeights<X>& weights, const float* statistics,
                   const NormGradients<X>& gradients, int64_t tokens, int64_t hidden, void* workspace) {
  const int64_t blocks = blocks_of(tokens);
  const bool with_bias = centers(weights.options) && gradients.db != nullptr;
  float* const dw = static_cast<float*>(workspace);
  float* const db = with_bias ? dw + blocks * hidden : nullptr;
  with_width<X>(hidden, {dy, x, weights.w, gradients.dx, dw}, [&]<int n>() {
    launch(stream, "norm_backward", {grid_axis(blocks, "norm")}, threads, sizeof(NormBackwardScratch),
           norm_backward_kernel<n, X>, dy, x, weights, statistics, gradients.dx, dw, db, tokens, hidden);
  });
  add_blocks(stream, dw, blocks, gradients.dw, hidden);
  if (with_bias) add_blocks(stream, db, blocks, gradients.db, hidden);
}

template void norm_backward(Stream, const float*, const float*, const NormWeights<float>&, const float*,
                            const NormGradients<float>&, int64_t, int64_t, void*);
template void norm_backward(Stream, const bf16*, const bf16*, const NormWeights<bf16>&, const float*,
                            const NormGradients<bf16>&, int64_t, int64_t, void*);

}  // namespace llama_tp::kernels
