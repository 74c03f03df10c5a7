// Norms, backward. With x̂ = (x − mean) · scale and g = dy · (offset + w), as in norm.cu:
//
//   dx += scale · (g − mean(g) − x̂ · mean(g · x̂))          without mean(g) where the kind does not center
//   dw += Σ_t dy · x̂        db += Σ_t dy
//
// dy, x, dx: [T, H]; dw, db: [H] f32. A block takes neighbouring rows in order, and so many of them that there are at
// most 256 blocks: two on each multiprocessor of a large GPU. A thread adds up dw and db of its columns in registers, of
// very long rows in the block's row of the workspace, [blocks, H] f32 or twice that; the blocks' rows are then added as
// those of a bias are (sums.cu). So the order of every sum is fixed. Bound by memory: reads 3 and writes 1 value an
// element.
#include "kernels/norm.h"
#include "kernels/workspace.h"

namespace llama_tp::kernels {

namespace {

constexpr int most_threads = 512, held = 2;

struct NormBackwardScratch {
  WarpValues<float> with_x[2], with_one[2];  // of one row and the next: a barrier between them then serves both
};

// Sums over a row of g · x̂ and of g, for its means.
struct RowSums {
  float with_x = 0, with_one = 0;
};

// The blocks' sums of dw and db, [blocks, H]; db may be null.
struct Partial {
  float *dw, *db;

  __device__ __forceinline__ Partial of_block(int64_t hidden) const {
    return {dw + blockIdx.x * hidden, db == nullptr ? nullptr : db + blockIdx.x * hidden};
  }
};

// What is read of a row, as it lies in memory.
template <int n, class X>
struct Piece {
  Packed<n, X> dy, x, dx;
};

// n elements of a row and what follows from them.
template <int n>
struct Elements {
  float d[n], normalized[n], g[n];

  template <class X>
  __device__ __forceinline__ Elements(const Packed<n, X>& dy, const Packed<n, X>& x, const Packed<n, X>& weight,
                                      float offset, RowStatistics row) {
    float w[n];
    dy.unpack(d);
    x.unpack(normalized);
    weight.unpack(w);
    for (int j = 0; j < n; j++) {
      normalized[j] = (normalized[j] - row.mean) * row.scale;
      g[j] = d[j] * (offset + w[j]);
    }
  }
  __device__ __forceinline__ void add_to(RowSums& sums) const {
    for (int j = 0; j < n; j++) {
      sums.with_x += g[j] * normalized[j];
      sums.with_one += g[j];
    }
  }
  // dx with its gradient added.
  template <class X>
  __device__ __forceinline__ Packed<n, X> added_to(const Packed<n, X>& before, RowStatistics row, float mean_x,
                                                   float mean_one) const {
    float dx[n];
    before.unpack(dx);
    for (int j = 0; j < n; j++) dx[j] += row.scale * (g[j] - mean_one - normalized[j] * mean_x);
    return Packed<n, X>::rounded(dx);
  }
};

// A thread's sums over the rows of its block, for n of its columns.
template <bool with_bias, int n>
struct ColumnSums {
  float dw[n] = {}, db[with_bias ? n : 1] = {};

  __device__ __forceinline__ void add(const Elements<n>& at) {
    for (int j = 0; j < n; j++) {
      dw[j] += at.d[j] * at.normalized[j];
      if constexpr (with_bias) db[j] += at.d[j];
    }
  }
  __device__ __forceinline__ void add_saved(const Partial& partial, int column) {
    add_saved(dw, partial.dw + column);
    if constexpr (with_bias) add_saved(db, partial.db + column);
  }
  __device__ __forceinline__ void save(const Partial& partial, int column) const {
    store(partial.dw + column, dw);
    if constexpr (with_bias) store(partial.db + column, db);
  }

 private:
  static __device__ __forceinline__ void add_saved(float (&sums)[n], const float* from) {
    float saved[n];
    load(saved, from);
    for (int j = 0; j < n; j++) sums[j] += saved[j];
  }
};

// A thread has `held` pieces of a row in registers; those of the next row are on their way while this one is worked on.
// What is beyond them is read twice.
template <bool centered, bool with_bias, int n, class X>
__global__ void __launch_bounds__(most_threads)
    norm_backward_kernel(const X* dy, const X* x, const X* weights, const float* statistics, X* dx, Partial partial,
                         NormOptions options, int64_t tokens, int hidden, int64_t rows) {
  auto& scratch = shared_memory<NormBackwardScratch>();
  const int64_t begin = blockIdx.x * rows, end = smaller(begin + rows, tokens);
  partial = partial.of_block(hidden);
  const int step = static_cast<int>(blockDim.x) * n, own = thread_of_block() * n;
  Packed<n, X> w[held];
  Piece<n, X> next[held];
  RowStatistics next_row;
  ColumnSums<with_bias, n> columns[held];
  const auto read_row = [&](int64_t t) {
    next_row = saved_statistics(options, statistics, t);
#pragma unroll
    for (int j = 0; j < held; j++) {
      const int64_t i = t * hidden + own + j * step;
      if (own + j * step < hidden) next[j] = {Packed<n, X>(dy + i), Packed<n, X>(x + i), Packed<n, X>(dx + i)};
    }
  };
#pragma unroll
  for (int j = 0; j < held; j++)
    if (own + j * step < hidden) w[j] = Packed<n, X>(weights + own + j * step);
  read_row(begin);
  for (int64_t t = begin; t < end; t++) {
    Piece<n, X> pieces[held];
#pragma unroll
    for (int j = 0; j < held; j++) pieces[j] = next[j];
    const RowStatistics row = next_row;
    if (t + 1 < end) read_row(t + 1);
    const float offset = options.kind.offset;
    const auto elements = [&](int j) { return Elements<n>(pieces[j].dy, pieces[j].x, w[j], offset, row); };
    const auto elements_beyond = [&](int i) {
      return Elements<n>(Packed<n, X>(dy + t * hidden + i), Packed<n, X>(x + t * hidden + i), Packed<n, X>(weights + i),
                         offset, row);
    };
    RowSums sums;
#pragma unroll
    for (int j = 0; j < held; j++)
      if (own + j * step < hidden) elements(j).add_to(sums);
    for (int i = own + held * step; i < hidden; i += step) elements_beyond(i).add_to(sums);
    const float mean_x = block_sum(sums.with_x, scratch.with_x[t % 2]) / static_cast<float>(hidden);
    const float mean_one =
        centered ? block_sum(sums.with_one, scratch.with_one[t % 2]) / static_cast<float>(hidden) : 0;
    X* const row_dx = dx + t * hidden;
#pragma unroll
    for (int j = 0; j < held; j++) {
      if (own + j * step >= hidden) break;
      const Elements<n> at = elements(j);
      at.added_to(pieces[j].dx, row, mean_x, mean_one).store(row_dx + own + j * step);
      columns[j].add(at);
    }
    for (int i = own + held * step; i < hidden; i += step) {
      const Elements<n> at = elements_beyond(i);
      at.added_to(Packed<n, X>(row_dx + i), row, mean_x, mean_one).store(row_dx + i);
      ColumnSums<with_bias, n> column;
      column.add(at);
      if (t > begin) column.add_saved(partial, i);
      column.save(partial, i);
    }
  }
#pragma unroll
  for (int j = 0; j < held; j++)
    if (own + j * step < hidden) columns[j].save(partial, own + j * step);
}

// As many threads as hold a row.
int threads_for(int64_t hidden, int n) {
  return static_cast<int>(smaller(ceil_div(hidden, int64_t{warp_size} * held * n) * warp_size, most_threads));
}

}  // namespace

template <class X>
void norm_backward(Stream stream, const X* dy, const X* x, const NormWeights<X>& weights, const float* statistics,
                   const NormGradients<X>& gradients, int64_t tokens, int64_t hidden, void* workspace) {
  const int64_t blocks = token_blocks(tokens);
  const bool with_bias = weights.options.kind.centers && gradients.db != nullptr;
  float* const dw = static_cast<float*>(workspace);
  float* const db = with_bias ? dw + blocks * hidden : nullptr;
  with_width<X>(hidden, {dy, x, weights.w, gradients.dx, dw}, [&]<int n>() {
    const auto start = [&](auto kernel) {
      launch(stream, "norm_backward", grid_of("norm", blocks), threads_for(hidden, n), sizeof(NormBackwardScratch),
             kernel, dy, x, weights.w, statistics, gradients.dx, Partial{dw, db}, weights.options, tokens,
             static_cast<int>(hidden), tokens_a_block(tokens));
    };
    if (with_bias)
      start(norm_backward_kernel<true, true, n, X>);
    else if (weights.options.kind.centers)
      start(norm_backward_kernel<true, false, n, X>);
    else
      start(norm_backward_kernel<false, false, n, X>);
  });
  bias_backward(stream, static_cast<const float*>(dw), gradients.dw, blocks, hidden);
  if (with_bias) bias_backward(stream, static_cast<const float*>(db), gradients.db, blocks, hidden);
}

template void norm_backward(Stream, const float*, const float*, const NormWeights<float>&, const float*,
                            const NormGradients<float>&, int64_t, int64_t, void*);
template void norm_backward(Stream, const bf16*, const bf16*, const NormWeights<bf16>&, const float*,
                            const NormGradients<bf16>&, int64_t, int64_t, void*);

}  // namespace llama_tp::kernels
