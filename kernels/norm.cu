// Norms, forward, with the addition to the residual stream on the way.
//
//   rms, rms_1p:                y = x / sqrt(mean(x²) + ε) · (offset + w)
//   layer_norm, layer_norm_1p:  y = (x − mean) / sqrt(var + ε) · (offset + w) + b
//
// The offset is 1 for kinds that end so, else 0. x, part, sum, y: [T, H]; w, b: [H]; statistics: [T] or [T, 2] f32. A
// block takes a row and holds as much of it as rows of 4,096 in bf16 have in registers; more is read again from its
// nearest cache. Bound by memory: reads 1 and writes 1 value an element, with the addition 2 and 2. What could be
// contracted to a fused multiply-add is written as one, so that norm_apply repeats norm_forward to the bit.
#include "kernels/norm.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 128;

struct NormScratch {
  WarpValues<float> sums, squares;
};

// A thread's pieces of a row of x, or of the rounded sum of two rows, which it also writes. All loads are under way at
// once; of what is beyond the registers' share the sum is read again by the thread that wrote it.
template <int n, class X>
class Share {
 public:
  __device__ __forceinline__ Share(const X* x, int hidden) : row_(x), hidden_(hidden) { read(x, held_); }
  __device__ __forceinline__ Share(const X* x, const X* part, X* sum, int hidden) : row_(sum), hidden_(hidden) {
    Packed<n, X> added[most_held];
    read(x, held_);
    read(part, added);
#pragma unroll
    for (int j = 0; j < most_held; j++) {
      if (place(j) >= hidden) break;
      held_[j] = sum_of(held_[j], added[j]);
      held_[j].store(sum + place(j));
    }
    for (int i = place(most_held); i < hidden; i += place_step)
      sum_of(Packed<n, X>(x + i), Packed<n, X>(part + i)).store(sum + i);
  }

  // use(where in the row, n values)
  template <class Use>
  __device__ __forceinline__ void each(const Use& use) const {
#pragma unroll
    for (int j = 0; j < most_held; j++) {
      if (place(j) >= hidden_) break;
      float values[n];
      held_[j].unpack(values);
      use(place(j), values);
    }
    each_piece<2, n>(row_, place(most_held), hidden_, place_step, use);
  }

 private:
  static constexpr int most_held = 4;
  static constexpr int place_step = threads * n;

  static __device__ __forceinline__ int place(int j) { return thread_of_block() * n + j * place_step; }
  __device__ __forceinline__ void read(const X* from, Packed<n, X> (&to)[most_held]) const {
#pragma unroll
    for (int j = 0; j < most_held; j++)
      if (place(j) < hidden_) to[j] = Packed<n, X>(from + place(j));
  }
  static __device__ __forceinline__ Packed<n, X> sum_of(const Packed<n, X>& a, const Packed<n, X>& b) {
    float values[n], added[n];
    a.unpack(values);
    b.unpack(added);
    for (int j = 0; j < n; j++) values[j] += added[j];
    return Packed<n, X>::rounded(values);
  }

  Packed<n, X> held_[most_held];
  const X* row_;
  int hidden_;
};

template <int n, class X>
__device__ __forceinline__ RowStatistics statistics_of(const Share<n, X>& x, const NormOptions& options, int hidden,
                                                       NormScratch& scratch) {
  const auto count = static_cast<float>(hidden);
  RowStatistics row;
  if (options.kind.centers) {
    float sum = 0;
    x.each([&](int, const float(&values)[n]) {
      for (int j = 0; j < n; j++) sum += values[j];
    });
    row.mean = block_sum(sum, scratch.sums) / count;
  }
  float squares = 0;
  x.each([&](int, const float(&values)[n]) {
    for (int j = 0; j < n; j++) squares = fmaf(values[j] - row.mean, values[j] - row.mean, squares);
  });
  row.scale = 1.0f / sqrtf(block_sum(squares, scratch.squares) / count + options.epsilon);
  return row;
}

template <int n, class X>
__device__ __forceinline__ void apply(const Share<n, X>& x, const NormWeights<X>& weights, RowStatistics row, X* y) {
  const float offset = weights.options.kind.offset;
  const bool with_bias = weights.options.kind.centers && weights.b != nullptr;
  x.each([&](int i, const float(&values)[n]) {
    float out[n], w[n], b[n] = {};
    load(w, weights.w + i);
    if (with_bias) load(b, weights.b + i);
    for (int j = 0; j < n; j++) {
      const float normalized = (values[j] - row.mean) * row.scale;
      out[j] = fmaf(normalized, offset + w[j], b[j]);
    }
    store(y + i, out);
  });
}

__device__ void save(const RowStatistics& row, const NormOptions& options, float* statistics) {
  if (threadIdx.x != 0) return;
  const int64_t t = blockIdx.x;
  if (options.kind.centers) {
    statistics[2 * t] = row.mean;
    statistics[2 * t + 1] = row.scale;
  } else {
    statistics[t] = row.scale;
  }
}

template <int n, class X>
__global__ void __launch_bounds__(threads)
    norm_forward_kernel(const X* x, NormWeights<X> weights, X* y, float* statistics, int hidden) {
  begin_behind_grids_ahead();
  const int64_t first = int64_t{blockIdx.x} * hidden;
  const Share<n, X> share(x + first, hidden);
  const RowStatistics row = statistics_of(share, weights.options, hidden, shared_memory<NormScratch>());
  save(row, weights.options, statistics);
  apply(share, weights, row, y + first);
}

// The statistics are those of the rounded sum, which is what backward and norm_apply will see.
template <int n, class X>
__global__ void __launch_bounds__(threads) add_norm_forward_kernel(const X* x, const X* part, NormWeights<X> weights,
                                                                   X* sum, X* y, float* statistics, int hidden) {
  begin_behind_grids_ahead();
  const int64_t first = int64_t{blockIdx.x} * hidden;
  const Share<n, X> share(x + first, part + first, sum + first, hidden);
  const RowStatistics row = statistics_of(share, weights.options, hidden, shared_memory<NormScratch>());
  save(row, weights.options, statistics);
  apply(share, weights, row, y + first);
}

template <int n, class X>
__global__ void __launch_bounds__(threads)
    norm_apply_kernel(const X* x, NormWeights<X> weights, const float* statistics, X* y, int hidden) {
  const int64_t first = int64_t{blockIdx.x} * hidden;
  const RowStatistics row = saved_statistics(weights.options, statistics, blockIdx.x);
  apply(Share<n, X>(x + first, hidden), weights, row, y + first);
}

}  // namespace

template <class X>
void norm_forward(Stream stream, const X* x, const NormWeights<X>& weights, X* y, float* statistics, int64_t tokens,
                  int64_t hidden) {
  with_width<X>(hidden, {x, weights.w, weights.b, y}, [&]<int n>() {
    launch_early(stream, "norm_forward", grid_of("norm", tokens), threads, sizeof(NormScratch),
                 norm_forward_kernel<n, X>, x, weights, y, statistics, static_cast<int>(hidden));
  });
}

template <class X>
void add_norm_forward(Stream stream, const X* x, const X* part, const NormWeights<X>& weights, X* sum, X* y,
                      float* statistics, int64_t tokens, int64_t hidden) {
  with_width<X>(hidden, {x, part, weights.w, weights.b, sum, y}, [&]<int n>() {
    launch_early(stream, "add_norm_forward", grid_of("norm", tokens), threads, sizeof(NormScratch),
                 add_norm_forward_kernel<n, X>, x, part, weights, sum, y, statistics, static_cast<int>(hidden));
  });
}

template <class X>
void norm_apply(Stream stream, const X* x, const NormWeights<X>& weights, const float* statistics, X* y, int64_t tokens,
                int64_t hidden) {
  with_width<X>(hidden, {x, weights.w, weights.b, y}, [&]<int n>() {
    launch(stream, "norm_apply", grid_of("norm", tokens), threads, 0, norm_apply_kernel<n, X>, x, weights, statistics,
           y, static_cast<int>(hidden));
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
