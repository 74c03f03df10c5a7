// Attention, forward, a warp a query: for decoding, where there are too few queries for tiles, for f32, and for head
// sizes that have no tiles.
//
//   out[t, a·D …] = Σ_j p_j v[g, j],  p_j = exp(scale q[a, t]·k[g, j] − lse),  lse[a, t] = log Σ_j exp(scale q·k)
//
// q: [A, T, D]; k, v: [G, C, D]; out: [T, A·D]; lse: [A, T] f32 or null; D ≤ 256. The lanes of a warp share the D
// elements, and the warps of a block are queries of different heads that read the same keys. With few tokens the keys
// are cut into chunks of 64, each a warp's work, so that there is work for every multiprocessor, and a second kernel
// joins the chunks in a fixed order. Bound by memory when decoding: reads each key and value once a group of heads, eight
// of both at once; with many queries by arithmetic outside the tensor cores.
#include "kernels/attention.h"
#include "kernels/attention_rows.h"

namespace llama_tp::kernels {

namespace {

constexpr int64_t key_chunk = 64, splitting_tokens = 8;  // with more tokens there are warps enough

int64_t chunks_of(const AttentionShape& shape) {
  return shape.tokens <= splitting_tokens ? larger(parts_of(shape.longest_key, key_chunk), 1) : 1;
}

// Unnormalized sums of a row over a chunk of keys, and its numbers: Σ 2^(score − offset) v, the offset and the total.
struct Partial {
  float *sums, *offset, *total;  // [heads, tokens, chunks, D], [heads, tokens, chunks] twice; null: one chunk
};

template <class X>
struct Output {
  X* out;
  float* lse;

  // A query that sees no key gets 0 and −∞.
  template <class Row>
  __device__ __forceinline__ void put(const AttentionShape& shape, int64_t head, int64_t token, Row sums, float offset,
                                      float total) const {
    sums.scale(total == 0 ? 0 : 1 / total);
    sums.write(out + (token * shape.heads + head) * shape.head_dim, shape.head_dim);
    if (lse != nullptr && lane_of_warp() == 0) lse[head * shape.tokens + token] = (offset + log2f(total)) * log_of_2;
  }
};

// Keys and values that are loaded before the first is used; of the widest rows fewer, for the registers.
template <class Row>
constexpr int keys_at_once = Row::elements <= 128 ? 8 : 4;

// grid: queries of the longest sequence × chunks, blocks of heads, sequences
template <class Row, class X>
__global__ void attention_rows_kernel(AttentionInputs<X> inputs, AttentionShape shape, AttentionOptions options,
                                      Output<X> output, Partial partial, int64_t chunks) {
  begin_behind_grids_ahead();
  const Sequence sequence = sequence_at(shape.ranges, blockIdx.z);
  const int64_t query = blockIdx.x / chunks, chunk = blockIdx.x % chunks, dim = shape.head_dim;
  const HeadOfWarp head(shape);
  if (query >= sequence.queries || !head.exists) return;
  const int64_t token = sequence.first_query + query;
  Range keys = sequence.visible(static_cast<int>(query), options.window);
  if (chunks > 1) {
    keys.begin = static_cast<int>(larger(keys.begin, chunk * key_chunk));
    keys.end = static_cast<int>(smaller(keys.end, (chunk + 1) * key_chunk));
  }
  const float scale = options.scale * log2_of_e;
  const Row q(inputs.q + (head.number * shape.tokens + token) * dim, dim);
  const int64_t first = (head.kv * shape.cache + sequence.first_key) * dim;
  constexpr int at_once = keys_at_once<Row>;
  Row sums;
  float largest = lowest_score, total = 0;
  for (int key = keys.begin; key < keys.end; key += at_once) {
    Row k[at_once], v[at_once];
    float scores[at_once], most = largest;
    const int64_t row = first + key * dim;
#pragma unroll
    for (int i = 0; i < at_once; i++)
      if (key + i < keys.end) k[i] = Row(inputs.k + row + i * dim, dim), v[i] = Row(inputs.v + row + i * dim, dim);
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      const float score = q.dot(k[i]) * scale;
      scores[i] = key + i < keys.end ? score : minus_infinity;
      most = fmaxf(most, scores[i]);
    }
    const float factor = power_of_two(largest - most);
    largest = most;
    total *= factor;
    sums.scale(factor);
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      const float p = power_of_two(scores[i] - most);
      total += p;
      sums.add(p, v[i]);
    }
  }
  if (chunks == 1) return output.put(shape, head.number, token, sums, largest, total);
  const int64_t at = (head.number * shape.tokens + token) * chunks + chunk;
  sums.write(partial.sums + at * dim, dim);
  if (lane_of_warp() != 0) return;
  partial.offset[at] = largest;
  partial.total[at] = total;
}

// What chunks of keys come to when they are joined one after the other.
template <class Row>
struct Joined {
  Row sums;
  float offset = lowest_score, total = 0;

  __device__ __forceinline__ void add(const Row& more, float more_offset, float more_total) {
    const float most = fmaxf(offset, more_offset);
    const float factor = power_of_two(offset - most), more_factor = power_of_two(more_offset - most);
    sums.scale(factor);
    sums.add(more_factor, more);
    total = total * factor + more_total * more_factor;
    offset = most;
  }
};

constexpr int join_warps = 8, chunks_at_once = 4;

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
  Joined<Row> joined;
  for (int chunk = warp; chunk < all; chunk += join_warps * chunks_at_once) {
    Row sums[chunks_at_once];
    float offset[chunks_at_once], total[chunks_at_once];
#pragma unroll
    for (int i = 0; i < chunks_at_once; i++) {
      const int64_t at = first + chunk + i * join_warps;
      if (chunk + i * join_warps >= all) continue;
      sums[i] = Row(partial.sums + at * dim, dim);
      offset[i] = partial.offset[at];
      total[i] = partial.total[at];
    }
#pragma unroll
    for (int i = 0; i < chunks_at_once; i++)
      if (chunk + i * join_warps < all) joined.add(sums[i], offset[i], total[i]);
  }
  joined.sums.write(scratch.sums[warp], Row::elements);
  if (lane_of_warp() == 0) scratch.offset[warp] = joined.offset, scratch.total[warp] = joined.total;
  __syncthreads();
  if (warp != 0) return;
  for (int other = 1; other < join_warps; other++)
    joined.add(Row(scratch.sums[other], Row::elements), scratch.offset[other], scratch.total[other]);
  output.put(shape, head, token, joined.sums, joined.offset, joined.total);
}

// Nothing where one chunk is all.
Partial partial_in(void* workspace, const AttentionShape& shape, int64_t chunks) {
  if (chunks == 1) return {};
  const int64_t rows = shape.heads * shape.tokens * chunks;
  auto* const floats = static_cast<float*>(workspace);
  return {floats, floats + rows * shape.head_dim, floats + rows * (shape.head_dim + 1)};
}

}  // namespace

int64_t attention_forward_rows_workspace(const AttentionShape& shape) {
  const int64_t chunks = chunks_of(shape);
  if (chunks == 1) return 0;
  return shape.heads * shape.tokens * chunks * (shape.head_dim + 2) * static_cast<int64_t>(sizeof(float));
}

template <class X>
void attention_forward_rows(Stream stream, const AttentionInputs<X>& inputs, const AttentionShape& shape,
                            const AttentionOptions& options, X* out, float* lse, void* workspace) {
  require(options.scale > 0, "attention: a scale of ", options.scale, "; it must be positive");
  const int64_t chunks = chunks_of(shape);
  const Partial partial = partial_in(workspace, shape, chunks);
  const Output<X> output{out, lse};
  const dim3 blocks{grid_axis(shape.longest_query * chunks, "attention"), blocks_of_heads(shape),
                    grid_axis(shape.sequences, "attention")};
  with_row(shape.head_dim, [&]<class Row>() {
    launch_early(stream, "attention_rows", blocks, threads_of_heads(shape), 0, attention_rows_kernel<Row, X>, inputs,
                 shape, options, output, partial, chunks);
    if (chunks > 1)
      launch_early(stream, "join_chunks", {grid_axis(shape.tokens, "attention"), grid_axis(shape.heads, "attention")},
                   join_warps * warp_size, sizeof(JoinScratch<Row>), join_chunks_kernel<Row, X>, shape, output, partial,
                   chunks);
  });
}

template void attention_forward_rows(Stream, const AttentionInputs<float>&, const AttentionShape&,
                                     const AttentionOptions&, float*, float*, void*);
template void attention_forward_rows(Stream, const AttentionInputs<bf16>&, const AttentionShape&,
                                     const AttentionOptions&, bf16*, float*, void*);

}  // namespace llama_tp::kernels
