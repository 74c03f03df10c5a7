// The rows of this rank's part of the embedding table, fetched, and their gradients added.
//
//   y[t] = table[ids[t] − first_row], 0 where another rank holds the row
//   dtable[ids[t] − first_row] += dy[t] in the order of t; the row of skip_id gets nothing
//
// ids: [T] i32; table: [V, H]; dtable: [V, H] f32; y, dy: [T, H]. Forward, a block takes a token. Backward, a block takes
// some columns of every gridDim.x-th row of the table, goes through all ids, and adds the gradients of its rows as they
// come: so no two blocks meet in a value and the order is fixed. Neighbouring rows are of different blocks, since ids that
// are frequent are often neighbours. Bound by memory: forward reads and writes a value an element, backward reads dy and
// reads and writes f32; a row of many tokens by eight of them in the time from a load to its data.
#include <bit>

#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;
constexpr int64_t most_blocks = 256;  // backward; an H200 has room for so many at once, in bf16

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

// The rows that a block adds to: of a grid whose x is a power of two.
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

constexpr int tokens_at_once = 8;

// Tokens whose gradients are loaded together and then added one after the other.
struct FoundTokens {
  int32_t token[tokens_at_once];
  uint32_t row[tokens_at_once];
  int count = 0;

  // All indices are known to the compiler: the arrays are registers.
  __device__ __forceinline__ void add(int32_t t, uint32_t its_row) {
#pragma unroll
    for (int j = 0; j < tokens_at_once; j++)
      if (j == count) token[j] = t, row[j] = its_row;
    count++;
  }
};

// The n columns of a thread. A row that occurs again takes the sum of the token before it, not what memory had.
template <int n, class X>
__device__ void add_gradients(const FoundTokens& found, const X* dy, float* dtable, int64_t hidden) {
  Packed<n, X> added[tokens_at_once];
  Packed<n, float> sums[tokens_at_once];
#pragma unroll
  for (int j = 0; j < tokens_at_once; j++)
    if (j < found.count) {
      added[j] = Packed<n, X>(dy + found.token[j] * hidden);
      sums[j] = Packed<n, float>(dtable + found.row[j] * hidden);
    }
#pragma unroll
  for (int j = 0; j < tokens_at_once; j++) {
    if (j >= found.count) break;
#pragma unroll
    for (int before = 0; before < j; before++)
      if (found.row[before] == found.row[j]) sums[j] = sums[before];
    float values[n], sum[n];
    added[j].unpack(values);
    sums[j].unpack(sum);
    for (int i = 0; i < n; i++) sum[i] += values[i];
    sums[j] = Packed<n, float>::rounded(sum);
    sums[j].store(dtable + found.row[j] * hidden);
  }
}

// Each warp goes through the ids by itself, so that warps need not wait for each other.
template <int n, class X>
__global__ void __launch_bounds__(threads) embedding_backward_kernel(const int32_t* ids, const X* dy, OwnRows own,
                                                                     float* dtable, int64_t tokens, int64_t hidden) {
  constexpr int at_once = 8;
  constexpr int32_t no_id = -1;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * threads + thread_of_block()) * n;
  FoundTokens found;
  const auto add_all = [&] {
    if (column < hidden) add_gradients<n>(found, dy + column, dtable + column, hidden);
    found.count = 0;
  };
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
      const uint32_t lanes = lanes_where((wanted >> i & 1) != 0);
      for (int lane = 0; lane < warp_size && lanes >> lane != 0; lane++) {
        if ((lanes >> lane & 1) == 0) continue;
        const auto t = static_cast<int32_t>(begin + i * warp_size + lane);
        found.add(t, own.row_of(ids[t]));
        if (found.count == tokens_at_once) add_all();
      }
    }
  }
  add_all();
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
  with_width<float>(hidden, {dy, dtable}, [&]<int n>() {  // 16 bytes of dtable
    const int64_t columns = ceil_div(hidden, threads * n), most_rows = larger(most_blocks / columns, 1);
    const auto apart = std::bit_floor(static_cast<uint64_t>(smaller(rows.rows, most_rows)));
    launch(stream, "embedding_backward", {static_cast<unsigned>(apart), static_cast<unsigned>(columns)}, threads, 0,
           embedding_backward_kernel<n, X>, ids, dy, own, dtable, tokens, hidden);
  });
}

template void embedding_forward(Stream, const int32_t*, const float*, const EmbeddingRows&, float*, int64_t, int64_t);
template void embedding_forward(Stream, const int32_t*, const bf16*, const EmbeddingRows&, bf16*, int64_t, int64_t);
template void embedding_backward(Stream, const int32_t*, const float*, const EmbeddingRows&, int64_t, float*, int64_t,
                                 int64_t);
template void embedding_backward(Stream, const int32_t*, const bf16*, const EmbeddingRows&, int64_t, float*, int64_t,
                                 int64_t);

}  // namespace llama_tp::kernels
