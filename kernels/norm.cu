// Norms, forward, with the addition to the residual stream on the way.
//
//   rms:            y = x / sqrt(mean(x²) + ε) · w                                   (Zhang & Sennrich 2019)
//   layer_norm_1p:  y = (x − mean) / sqrt(var + ε) · (1 + w) + b                     (Nemotron-4)
//
// x, part, sum, y: [T, H]; w, b: [H]; statistics: [T] or [T, 2] f32. A block takes a row, which is read from memory
// once and again from its nearest cache. Bound by memory: reads 1 and writes 1 value an element, with the addition 2
// and 2. What could be contracted to a fused multiply-add is written as one, so that norm_apply repeats norm_forward to
// the bit.
#include "kernels/norm.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;

struct NormScratch {
  WarpValues<float> sums, squares;
};

template <int n, class X>
__device__ RowStatistics statistics_of(const X* x, const NormOptions& options, int64_t hidden, NormScratch& scratch) {
  const auto count = static_cast<float>(hidden);
  float values[n];
  RowStatistics row;
  if (centers(options)) {
    float sum = 0;
    for (int64_t i = threadIdx.x * n; i < hidden; i += threads * n) {
      load(values, x + i);
      for (int j = 0; j < n; j++) sum += values[j];
    }
    row.mean = block_sum(sum, scratch.sums) / count;
  }
  float squares = 0;
  for (int64_t i = threadIdx.x * n; i < hidden; i += threads * n) {
    load(values, x + i);
    for (int j = 0; j < n; j++) squares = fmaf(values[j] - row.mean, values[j] - row.mean, squares);
  }
  row.scale = 1.0f / sqrtf(block_sum(squares, scratch.squares) / count + options.epsilon);
  return row;
}

template <int n, class X>
__device__ void apply(const X* x, const NormWeights<X>& weights, RowStatistics row, X* y, int64_t hidden) {
  const bool centered = centers(weights.options), with_bias = centered && weights.b != nullptr;
  for (int64_t i = threadIdx.x * n; i < hidden; i += threads * n) {
    float values[n], w[n], b[n] = {};
    load(values, x + i);
    load(w, weights.w + i);
    if (with_bias) load(b, weights.b + i);
    for (int j = 0; j < n; j++) {
      const float normalized = (values[j] - row.mean) * row.scale;
      values[j] = centered ? fmaf(normalized, 1.0f + w[j], b[j]) : normalized * w[j];
    }
    store(y + i, values);
  }
}

__device__ void save(const RowStatistics& row, const NormOptions& options, float* statistics) {
  if (threadIdx.x != 0) return;
  const int64_t t = blockIdx.x;
  if (centers(options)) {
    statistics[2 * t] = row.mean;
    statistics[2 * t + 1] = row.scale;
  } else {
    statistics[t] = row.scale;
  }
}

template <int n, class X>
__global__ void norm_forward_kernel(const X* x, NormWeights<X> weights, X* y, float* statistics, int64_t hidden) {
  const int64_t first = blockIdx.x * hidden;
  const RowStatistics row = statistics_of<n>(x + first, weights.options, hidden, shared_memory<NormScratch>());
  save(row, weights.options, statistics);
  apply<n>(x + first, weights, row, y + first, hidden);
}

// The statistics are those of the rounded sum, which is what backward and norm_apply will see. A thread reads again
// only what it has written itself.
template <int n, class X>
__global__ void add_norm_forward_kernel(const X* x, const X* part, NormWeights<X> weights, X* sum, X* y,
                                        float* statistics, int64_t hidden) {
  const int64_t first = blockIdx.x * hidden;
  for (int64_t i = threadIdx.x * n; i < hidden; i += threads * n) {
    float values[n], added[n];
    load(values, x + first + i);
    load(added, part + first + i);
    for (int j = 0; j < n; j++) values[j] += added[j];
    store(sum + first + i, values);
  }
  const RowStatistics row = statistics_of<n>(sum + first, weights.options, hidden, shared_memory<NormScratch>());
  save(row, weights.options, statistics);
  apply<n>(sum + first, weights, row, y + first, hidden);
}

template <int n, class X>
__global__ void norm_apply_kernel(const X* x, NormWeights<X> weights, const float* statistics, X* y, int64_t hidden) {
  const int64_t first = blockIdx.x * hidden;
  apply<n>(x + first, weights, saved_statistics(weights.options, statistics, blockIdx.x), y + first, hidden);
}

}  // namespace

template <class X>
void norm_forward(Stream stream, const X* x, const NormWeights<X>& weights, X* y, float* statistics, int64_t tokens,
                  int64_t hidden) {
  with_width<X>(hidden, {x, weights.w, weights.b, y}, [&]<int n>() {
    launch(stream, "norm_forward", {grid_axis(tokens, "norm")}, threads, sizeof(NormScratch), norm_forward_kernel<n, X>,
           x, weights, y, statistics, hidden);
  });
}

template <class X>
void add_norm_forward(Stream stream, const X* x, const X* part, const NormWeights<X>& weights, X* sum, X* y,
                      float* statistics, int64_t tokens, int64_t hidden) {
  with_width<X>(hidden, {x, part, weights.w, weights.b, sum, y}, [&]<int n>() {
    launch(stream, "add_norm_forward", {grid_axis(tokens, "norm")}, threads, sizeof(NormScratch),
           add_norm_forward_kernel<n, X>, x, part, weights, sum, y, statistics, hidden);
  });
}

template <class X>
void norm_apply(Stream stream, const X* x, const NormWeights<X>& weights, const float* statistics, X* y, int64_t tokens,
                int64_t hidden) {
  with_width<X>(hidden, {x, weights.w, weights.b, y}, [&]<int n>() {
    launch(stream, "norm_apply", {grid_axis(tokens, "norm")}, threads, 0, norm_apply_kernel<n, X>, x, weights,
           statistics, y, hidden);
  });
}

template void norm_forward(Stream, const float*, const NormWeights<float>&, float*, float*, int64_t, int64_t);
template void norm_forward(Stream, const bf16*, const NormWeights<bf16>&, bf16*, float*, int64_t, int64_t);
template void add_norm_forward(Stream, const float*, const float*, const NormWeights<float>&, float*, float*, float*,
                               int64_t, int64_t);
template void add_norm_forward(Stream, const bf16*, const bf16*, const NormWeights<bf16>&, bf16*, bf16*, float*,
                               int64_t, int64_t);
template void norm_apply(Stream, const float*, const NormWeights<float>&, const float*, float*, int64_t, int64_t);
template void norm_apply(Stream, const bf16*, const NormWeights<bf16>&, const float*, bf16*, int64_t, int64_t);

}  // namespace llama_tp::kernels
