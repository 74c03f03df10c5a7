// The rows of this rank's part of the embedding table, fetched, and their gradients added.
//
//   y[t] = table[ids[t] − first_row], 0 where another rank holds the row
//   dtable[ids[t] − first_row] += dy[t] in the order of t; the row of skip_id gets nothing
//
// ids: [T] i32; table: [V, H]; dtable: [V, H] f32; y, dy: [T, H]. A block takes a token. Backward, the block of an id's
// first token adds the gradients of all its tokens, so that no two blocks meet in a row and the order is fixed; the
// others end when they see an equal id before theirs. Bound by memory: forward reads and writes a value an element,
// backward reads dy and reads and writes f32; the T²/2 comparisons of ids are of cached values, 32 at a time.
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

// A bit for each of the tokens begin … + 31, set where the token has this id.
__device__ __forceinline__ uint32_t equal_ids(const int32_t* ids, int32_t id, int64_t begin, int64_t end) {
  const int64_t t = begin + lane_of_warp();
  return lanes_where(t < end && ids[t] == id);
}

template <int n, class X>
__device__ void add_row(const X* from, float* to, int64_t hidden) {
  each_piece<4, n>(from, thread_of_block() * n, static_cast<int>(hidden), threads * n,
                   [&](int i, const float(&added)[n]) {
                     float sum[n];
                     load(sum, to + i);
                     for (int j = 0; j < n; j++) sum[j] += added[j];
                     store(to + i, sum);
                   });
}

// Each warp looks for equal ids by itself, so that warps need not wait for each other.
template <int n, class X>
__global__ void embedding_backward_kernel(const int32_t* ids, const X* dy, EmbeddingRows rows, int64_t skip_id,
                                          float* dtable, int64_t tokens, int64_t hidden) {
  const int64_t first = blockIdx.x;
  const int32_t id = ids[first];
  const int64_t row = id - rows.first_row;
  if (row < 0 || row >= rows.rows || id == skip_id) return;
  for (int64_t t = 0; t < first; t += warp_size)
    if (equal_ids(ids, id, t, first) != 0) return;
  for (int64_t t = first; t < tokens; t += warp_size) {
    const uint32_t equal = equal_ids(ids, id, t, tokens);
    for (int lane = 0; lane < warp_size; lane++)
      if ((equal >> lane & 1) != 0) add_row<n>(dy + (t + lane) * hidden, dtable + row * hidden, hidden);
  }
}

}  // namespace

template <class X>
void embedding_forward(Stream stream, const int32_t* ids, const X* table, const EmbeddingRows& rows, X* y,
                       int64_t tokens, int64_t hidden) {
  with_width<X>(hidden, {table, y}, [&]<int n>() {
    launch_early(stream, "embedding_forward", {grid_axis(tokens, "embedding")}, threads, 0,
                 embedding_forward_kernel<n, X>, ids, table, rows, y, hidden);
  });
}

template <class X>
void embedding_backward(Stream stream, const int32_t* ids, const X* dy, const EmbeddingRows& rows, int64_t skip_id,
                        float* dtable, int64_t tokens, int64_t hidden) {
  with_width<float>(hidden, {dy, dtable}, [&]<int n>() {  // 16 bytes of dtable
    launch(stream, "embedding_backward", {grid_axis(tokens, "embedding")}, threads, 0, embedding_backward_kernel<n, X>,
           ids, dy, rows, skip_id, dtable, tokens, hidden);
  });
}

template void embedding_forward(Stream, const int32_t*, const float*, const EmbeddingRows&, float*, int64_t, int64_t);
template void embedding_forward(Stream, const int32_t*, const bf16*, const EmbeddingRows&, bf16*, int64_t, int64_t);
template void embedding_backward(Stream, const int32_t*, const float*, const EmbeddingRows&, int64_t, float*, int64_t,
                                 int64_t);
template void embedding_backward(Stream, const int32_t*, const bf16*, const EmbeddingRows&, int64_t, float*, int64_t,
                                 int64_t);

}  // namespace llama_tp::kernels
