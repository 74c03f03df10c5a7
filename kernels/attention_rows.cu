// Attention, forward, a warp a query: for decoding, where there are too few queries for tiles, for f32, and for head
// sizes that have no tiles. Its join of chunks is attention_few_queries.cu's, too.
//
//   out[t, a·D …] = Σ_j p_j v[g, j],  p_j = exp(scale q[a, t]·k[g, j] − lse),  lse[a, t] = log Σ_j exp(scale q·k)
//
// q: [A, T, D]; k, v: [G, C, D]; out: [T, A·D]; lse: [A, T] f32 or null; D ≤ 256. The lanes of a warp share the D
// elements of a key, or groups of lanes have a key each, 16 bytes a lane; the warps of a block are queries of different
// heads that read the same keys. With few tokens the keys are cut into chunks, each a warp's work, so that there is work
// for every multiprocessor, and a second kernel joins the chunks in a fixed order. Bound by arithmetic outside the tensor
// cores; when decoding it reads each key and value once a group of heads.
#include "kernels/attention_chunks.h"
#include "kernels/attention_rows.h"

namespace llama_tp::kernels {

namespace {

// Softmax of a row over some keys, as it goes: Σ 2^(score − offset) v and Σ 2^(score − offset).
template <class Row>
struct Softmax {
  Row sums;
  float offset = lowest_score, total = 0;

  __device__ __forceinline__ void raise_offset(float to) {
    const float factor = power_of_two(offset - to);
    sums.scale(factor);
    total *= factor;
    offset = to;
  }
  __device__ __forceinline__ void add(float p, const Row& v) {
    total += p;
    sums.add(p, v);
  }
  // Over other keys.
  __device__ __forceinline__ void join(const Softmax& other) {
    raise_offset(fmaxf(offset, other.offset));
    const float factor = power_of_two(other.offset - offset);
    total = fmaf(factor, other.total, total);
    sums.add(factor, other.sums);
  }
  // That of the lanes whose numbers differ in the bits of `mask`.
  __device__ __forceinline__ Softmax exchanged(int mask) const {
    return {sums.exchanged(mask), exchange(offset, mask), exchange(total, mask)};
  }
};

// A query that sees no key gets 0 and −∞.
template <class Row, class X>
__device__ __forceinline__ void put(const Output<X>& output, const AttentionShape& shape, int64_t head, int64_t token,
                                    Softmax<Row> softmax) {
  softmax.sums.scale(softmax.total == 0 ? 0 : 1 / softmax.total);
  softmax.sums.write(output.out + (token * shape.heads + head) * shape.head_dim, shape.head_dim);
  if (output.lse != nullptr && lane_of_warp() == 0)
    output.lse[head * shape.tokens + token] = log_sum(softmax.offset, softmax.total);
}

// Rows, of keys and of values each, that are loaded before the first is used: what 32 registers hold.
template <class Row, class X>
constexpr int64_t rows_at_once = smaller(16, 128 / sizeof(typename Row::template Packed<X>));

// grid: queries of the longest sequence × chunks, blocks of heads, sequences
template <class Row, class X>
__global__ void __launch_bounds__(most_heads* warp_size, 2)
    attention_rows_kernel(AttentionInputs<X> inputs, AttentionShape shape, AttentionOptions options, Output<X> output,
                          Partial partial, Chunks chunks) {
  begin_behind_grids_ahead();
  const Sequence sequence = sequence_at(shape.ranges, blockIdx.z);
  const int64_t query = blockIdx.x / chunks.count, chunk = blockIdx.x % chunks.count, dim = shape.head_dim;
  const HeadOfWarp head(shape);
  if (query >= sequence.queries || !head.exists) return;
  const int64_t token = sequence.first_query + query;
  const Range keys = visible_in_chunk(sequence, query, options.window, chunks, chunk);
  const float scale = options.scale * log2_of_e;
  const Row q(inputs.q + (head.number * shape.tokens + token) * dim, dim);
  const int64_t first = (head.kv * shape.cache + sequence.first_key) * dim;
  const X *const keys_of_head = inputs.k + first, *const values_of_head = inputs.v + first;
  constexpr int at_once = rows_at_once<Row, X>, rows_a_warp = warp_size / Row::lanes;
  const int row_size = static_cast<int>(dim);
  Softmax<Row> softmax;
  for (int key = keys.begin; key < keys.end; key += at_once * rows_a_warp) {
    const int own_key = key + lane_of_warp() / Row::lanes;
    typename Row::template Packed<X> k[at_once], v[at_once];
    float scores[at_once], most = softmax.offset;
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      // Behind the last key that is read once more, and weighs nothing.
      const int wanted = own_key + i * rows_a_warp, at = (wanted < keys.end ? wanted : keys.end - 1) * row_size;
      k[i] = {keys_of_head + at, dim}, v[i] = {values_of_head + at, dim};
    }
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      const float score = q.dot(Row(k[i])) * scale;
      scores[i] = own_key + i * rows_a_warp < keys.end ? score : minus_infinity;
      most = fmaxf(most, scores[i]);
    }
    softmax.raise_offset(most);
#pragma unroll
    for (int i = 0; i < at_once; i++) softmax.add(power_of_two(scores[i] - most), Row(v[i]));
  }
#pragma unroll
  for (int mask = Row::lanes; mask < warp_size; mask *= 2) softmax.join(softmax.exchanged(mask));
  if (chunks.count == 1) return put(output, shape, head.number, token, softmax);
  const int64_t at = (head.number * shape.tokens + token) * chunks.count + chunk;
  softmax.sums.write(partial.sums + at * dim, dim);
  if (lane_of_warp() != 0) return;
  partial.offset[at] = softmax.offset;
  partial.total[at] = softmax.total;
}

constexpr int join_warps = 8;

template <class Row>
struct JoinScratch {
  float sums[join_warps][Row::elements], offset[join_warps], total[join_warps];
};

// The chunks of one row: each warp joins every eighth, then the first warp what the warps have. A chunk of which the row
// sees nothing has a total of 0. grid: tokens, heads
template <class Row, class X>
__global__ void __launch_bounds__(join_warps* warp_size)
    join_chunks_kernel(AttentionShape shape, Output<X> output, Partial partial, int64_t chunks) {
  begin_behind_grids_ahead();
  auto& scratch = shared_memory<JoinScratch<Row>>();
  const int64_t token = blockIdx.x, head = blockIdx.y, first = (head * shape.tokens + token) * chunks;
  const int64_t dim = shape.head_dim;
  const int warp = warp_of_block(), all = static_cast<int>(chunks);
  Softmax<Row> softmax;
  constexpr int at_once = rows_at_once<Row, float>;
  for (int chunk = warp; chunk < all; chunk += join_warps * at_once) {
    Softmax<Row> others[at_once];
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      const int64_t at = first + chunk + i * join_warps;
      if (chunk + i * join_warps < all)
        others[i] = {Row(partial.sums + at * dim, dim), partial.offset[at], partial.total[at]};
    }
#pragma unroll
    for (int i = 0; i < at_once; i++)
      if (chunk + i * join_warps < all) softmax.join(others[i]);
  }
  softmax.sums.write(scratch.sums[warp], Row::elements);
  if (lane_of_warp() == 0) scratch.offset[warp] = softmax.offset, scratch.total[warp] = softmax.total;
  __syncthreads();
  if (warp != 0) return;
  for (int other = 1; other < join_warps; other++)
    softmax.join({Row(scratch.sums[other], Row::elements), scratch.offset[other], scratch.total[other]});
  put(output, shape, head, token, softmax);
}

// Calls start.operator()<Row>(): 16 bytes a lane, and so several rows a warp, where rows are multiples of that.
template <class X, class Start>
void with_narrow_row(int64_t head_dim, const Start& start) {
  constexpr int n = per_16_bytes<X>;
  if (head_dim % n == 0 && head_dim <= 8 * n)
    start.template operator()<Row<n, true, 8>>();
  else if (head_dim % n == 0 && head_dim <= 16 * n)
    start.template operator()<Row<n, true, 16>>();
  else
    with_row(head_dim, start);
}

}  // namespace

template <class X>
void join_chunks(Stream stream, const AttentionShape& shape, const Output<X>& output, const Partial& partial,
                 int64_t chunks) {
  with_row(shape.head_dim, [&]<class Row>() {
    launch_early(stream, "join_chunks", grid_of("attention", shape.tokens, shape.heads), join_warps * warp_size,
                 sizeof(JoinScratch<Row>), join_chunks_kernel<Row, X>, shape, output, partial, chunks);
  });
}

template void join_chunks(Stream, const AttentionShape&, const Output<bf16>&, const Partial&, int64_t);

template <class X>
void attention_forward_rows(Stream stream, const AttentionInputs<X>& inputs, const AttentionShape& shape,
                            const AttentionOptions& options, X* out, float* lse, void* workspace) {
  require_positive_scale(options);
  const Output<X> output{out, lse};
  with_chunks(stream, shape, output, workspace, [&](const Partial& partial, const Chunks& chunks) {
    with_narrow_row<X>(shape.head_dim, [&]<class Row>() {
      with_grids_of_sequences(shape, [&](const AttentionShape& some) {
        launch_early(stream, "attention_rows",
                     grid_of("attention", some.longest_query * chunks.count, blocks_of_heads(some), some.sequences),
                     threads_of_heads(some), 0, attention_rows_kernel<Row, X>, inputs, some, options, output, partial,
                     chunks);
      });
    });
  });
}

template void attention_forward_rows(Stream, const AttentionInputs<float>&, const AttentionShape&,
                                     const AttentionOptions&, float*, float*, void*);
template void attention_forward_rows(Stream, const AttentionInputs<bf16>&, const AttentionShape&,
                                     const AttentionOptions&, bf16*, float*, void*);

}  // namespace llama_tp::kernels
