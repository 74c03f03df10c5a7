// Attention of few queries, whose keys are cut into chunks: what the kernels that go over a chunk and the one that joins
// chunks know of each other.
#pragma once

#include "kernels/attention.h"

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

// attention_few_queries.cu: to output where one chunk is all, else to partial. Heads of 64 and 128.
inline bool has_few_queries(int64_t head_dim) { return head_dim == 64 || head_dim == 128; }
void attention_few_queries(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                           const AttentionOptions& options, const Output<bf16>& output, const Partial& partial,
                           const Chunks& chunks);

}  // namespace llama_tp::kernels
