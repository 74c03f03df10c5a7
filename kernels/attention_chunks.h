// Attention of few queries, whose keys are cut into chunks: what the kernels that go over a chunk and the one that joins
// chunks know of each other, and how the one is started behind the other.
#pragma once

#include "kernels/attention.h"
#include "kernels/workspace.h"

namespace llama_tp::kernels {

struct Chunks {
  int64_t count, keys;  // keys of each but the last
};

// Softmax of every row over every chunk: Σ 2^(score − offset) v, the offset, and the total Σ 2^(score − offset).
struct Partial {
  float *sums, *offset, *total;  // [heads, tokens, chunks, D], [heads, tokens, chunks] twice; null: one chunk
};

template <class X>
struct Output {
  X* out;
  float* lse;  // may be null
};

// Of offset and total.
__device__ __forceinline__ float log_sum(float offset, float total) { return (offset + log2f(total)) * log_of_2; }

// The keys of a chunk that a query sees.
__device__ __forceinline__ Range visible_in_chunk(const Sequence& sequence, int64_t query, int64_t window,
                                                  const Chunks& chunks, int64_t chunk) {
  const Range keys = sequence.visible(static_cast<int>(query), window);
  return {static_cast<int>(larger(keys.begin, chunk * chunks.keys)),
          static_cast<int>(smaller(keys.end, (chunk + 1) * chunks.keys))};
}

// As large as leave warps_wanted.
inline Chunks chunks_of(const AttentionShape& shape) {
  if (shape.tokens > splitting_tokens) return {1, shape.longest_key};
  const int64_t even = ceil_div(shape.longest_key * shape.heads * shape.tokens, warps_wanted);
  const int64_t keys = smaller(larger(ceil_div(even, least_chunk), 1) * least_chunk, most_chunk);
  return {larger(ceil_div(shape.longest_key, keys), 1), keys};
}

// Nothing where one chunk is all.
inline Partial partial_in(void* workspace, const AttentionShape& shape, int64_t chunks) {
  if (chunks == 1) return {};
  const int64_t rows = shape.heads * shape.tokens * chunks;
  auto* const floats = static_cast<float*>(workspace);
  return {floats, floats + rows * shape.head_dim, floats + rows * (shape.head_dim + 1)};
}

// attention_rows.cu: from partial to output, in a fixed order.
template <class X>
void join_chunks(Stream stream, const AttentionShape& shape, const Output<X>& output, const Partial& partial,
                 int64_t chunks);

// Calls start(partial, chunks), of a kernel that goes over a chunk: to output where one is all, else to partial, which
// is then joined.
template <class X, class Start>
void with_chunks(Stream stream, const AttentionShape& shape, const Output<X>& output, void* workspace,
                 const Start& start) {
  const Chunks chunks = chunks_of(shape);
  const Partial partial = partial_in(workspace, shape, chunks.count);
  start(partial, chunks);
  if (chunks.count > 1) join_chunks(stream, shape, output, partial, chunks.count);
}

}  // namespace llama_tp::kernels
