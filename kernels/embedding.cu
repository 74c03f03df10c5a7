// The rows of this rank's part of the embedding table, fetched, and their gradients added.
//
//   y[t] = table[ids[t] − first_row], 0 where another rank holds the row
//   dtable[ids[t] − first_row] += dy[t] in the order of t; the row of skip_id gets nothing
//
// ids: [T] i32; table: [V, H]; dtable: [V, H] f32; y, dy: [T, H]. Forward, a block takes a token. Backward, a block takes
// every 512th row of the table, goes through all ids, and adds the gradients of its rows as they come: so no two blocks
// meet in a row and the order is fixed. Neighbouring rows are of different blocks, since ids that are frequent are often
// neighbours. Bound by memory: forward reads and writes a value an element, backward reads dy and reads and writes f32.
#include <bit>

#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;

template <int n, class X>
__global__ void embedding_forward_kernel(const int32_t* ids, const X* table, EmbeddingRows rows, X* y, int64_t hidden) {
  begin_behind_grids_ahead();
  const int64_t row = ids[blockIdx.x] - rows.first_row;
  const bool here = row >= 0 && row < rows.rows;
  X* const to = y + blockIdx.x * hidden;
  if (here)
    each_piece<4, n>(table + row * hidden, thread_of_block() * n, static_cast<int>(hidden), threads * n,
                     [&](int i, const float(&values)[n]) { store(to + i, values); });
  else
    for (int64_t i = threadIdx.x * n; i < hidden; i += threads * n) store<n>(to + i, {});
}

// to += from, of which many pieces are loaded before the first is used.
template <int n, class X>
__device__ void add_row(const X* from, float* to, int hidden) {
  constexpr int at_once = 4, step = threads * n;
  for (int begin = thread_of_block() * n; begin < hidden; begin += at_once * step) {
    Packed<n, X> added[at_once];
    Packed<n, float> sums[at_once];
#pragma unroll
    for (int i = 0; i < at_once; i++)
      if (begin + i * step < hidden)
        added[i] = Packed<n, X>(from + begin + i * step), sums[i] = Packed<n, float>(to + begin + i * step);
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      if (begin + i * step >= hidden) break;
      float values[n], sum[n];
      added[i].unpack(values);
      sums[i].unpack(sum);
      for (int j = 0; j < n; j++) sum[j] += values[j];
      store(to + begin + i * step, sum);
    }
  }
}

constexpr int64_t most_blocks = 512;  // a power of two; an H200 has room for more at once

// The rows that a block adds to, of a grid whose size is a power of two.
struct OwnRows {
  int32_t first_row, skip_id;
  uint32_t rows;

  // Of an id below the first row's a large number.
  __device__ __forceinline__ uint32_t row_of(int32_t id) const { return static_cast<uint32_t>(id - first_row); }
  __device__ __forceinline__ bool have(int32_t id) const {
    const uint32_t row = row_of(id);
    return row < rows && (row & (gridDim.x - 1)) == blockIdx.x && id != skip_id;
  }
};

// Each warp goes through the ids by itself, so that warps need not wait for each other.
template <int n, class X>
__global__ void __launch_bounds__(threads) embedding_backward_kernel(const int32_t* ids, const X* dy, OwnRows own,
                                                                     float* dtable, int64_t tokens, int64_t hidden) {
  constexpr int at_once = 8;
  constexpr int32_t no_id = -1;
  for (int64_t begin = 0; begin < tokens; begin += at_once * warp_size) {
    int32_t id[at_once];
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      const int64_t t = begin + i * warp_size + lane_of_warp();
      id[i] = t < tokens ? ids[t] : no_id;
    }
    uint32_t wanted = 0;  // bit i: the i-th of this lane's
#pragma unroll
    for (int i = 0; i < at_once; i++) wanted |= static_cast<uint32_t>(own.have(id[i])) << i;
    if (lanes_where(wanted != 0) == 0) continue;
#pragma unroll 1
    for (int i = 0; i < at_once; i++) {
      const uint32_t found = lanes_where((wanted >> i & 1) != 0);
      for (int lane = 0; lane < warp_size && found >> lane != 0; lane++) {
        if ((found >> lane & 1) == 0) continue;
        const int64_t t = begin + i * warp_size + lane;
        add_row<n>(dy + t * hidden, dtable + own.row_of(ids[t]) * hidden, static_cast<int>(hidden));
      }
    }
  }
}

}  // namespace

template <class X>
void embedding_forward(Stream stream, const int32_t* ids, const X* table, const EmbeddingRows& rows, X* y,
                       int64_t tokens, int64_t hidden) {
  with_width<X>(hidden, {table, y}, [&]<int n>() {
    launch_early(stream, "embedding_forward", grid_of("embedding", tokens), threads, 0, embedding_forward_kernel<n, X>,
                 ids, table, rows, y, hidden);
  });
}

template <class X>
void embedding_backward(Stream stream, const int32_t* ids, const X* dy, const EmbeddingRows& rows, int64_t skip_id,
                        float* dtable, int64_t tokens, int64_t hidden) {
  if (rows.rows == 0 || tokens == 0) return;
  const OwnRows own{static_cast<int32_t>(rows.first_row), static_cast<int32_t>(skip_id),
                    static_cast<uint32_t>(rows.rows)};
  const auto blocks = std::bit_floor(static_cast<uint64_t>(smaller(rows.rows, most_blocks)));
  with_width<float>(hidden, {dy, dtable}, [&]<int n>() {  // 16 bytes of dtable
    launch(stream, "embedding_backward", {static_cast<unsigned>(blocks)}, threads, 0, embedding_backward_kernel<n, X>,
           ids, dy, own, dtable, tokens, hidden);
  });
}

template void embedding_forward(Stream, const int32_t*, const float*, const EmbeddingRows&, float*, int64_t, int64_t);
template void embedding_forward(Stream, const int32_t*, const bf16*, const EmbeddingRows&, bf16*, int64_t, int64_t);
template void embedding_backward(Stream, const int32_t*, const float*, const EmbeddingRows&, int64_t, float*, int64_t,
                                 int64_t);
template void embedding_backward(Stream, const int32_t*, const bf16*, const EmbeddingRows&, int64_t, float*, int64_t,
                                 int64_t);

}  // namespace llama_tp::kernels
