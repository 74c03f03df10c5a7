// Bytes of scratch that the kernels take, and how those that sum over tokens cut them into blocks. Functions of shapes
// alone, plain C++: a plan counts them where there is neither CUDA nor a GPU.
#pragma once

#include <algorithm>

#include "base/parts.h"
#include "kernels/kernels.h"

namespace llama_tp::kernels {

// ---- norm_backward.cu, head_norm.cu: a block's sums of dw and db each

constexpr int64_t most_token_blocks = 256;  // two on each multiprocessor of a large GPU
inline int64_t tokens_a_block(int64_t tokens) {
  return std::max<int64_t>(llama_tp::ceil_div(tokens, most_token_blocks), 1);
}
inline int64_t token_blocks(int64_t tokens) { return llama_tp::ceil_div(tokens, tokens_a_block(tokens)); }

inline int64_t norm_backward_workspace(const NormOptions& options, int64_t tokens, int64_t hidden) {
  const int64_t sums = options.kind.centers ? 2 : 1;
  return token_blocks(tokens) * hidden * sums * static_cast<int64_t>(sizeof(float));
}
inline int64_t head_norm_backward_workspace(const HeadNormShape& shape, int64_t tokens) {
  return token_blocks(tokens) * 2 * shape.head_dim * static_cast<int64_t>(sizeof(float));
}

// ---- attention

// attention_rows.cu, attention_few_queries.cu: with more tokens than these there are warps enough, with fewer their keys are cut into chunks.
constexpr int64_t splitting_tokens = 8;
// What the largest of GPUs have room for, 16 on each of 128 multiprocessors. The number is the same on all, and with it
// the order of sums.
constexpr int64_t warps_wanted = 2048;
constexpr int64_t least_chunk = 16, most_chunk = 64;  // keys; the least are what a warp has at once of heads of 128

// A bound that does not fall when there are more keys, so that what the longest past needs is enough for any: chunks of
// the least or any size between give at most the warps that are wanted, and one more for each row.
inline int64_t attention_forward_rows_workspace(const AttentionShape& shape) {
  if (shape.tokens > splitting_tokens || shape.longest_key <= least_chunk) return 0;
  const int64_t rows = shape.heads * shape.tokens, few = rows * llama_tp::ceil_div(shape.longest_key, most_chunk),
                many = rows * llama_tp::ceil_div(shape.longest_key, least_chunk);
  const int64_t chunks = std::max(few, std::min(many, warps_wanted + rows));
  return chunks * (shape.head_dim + 2) * static_cast<int64_t>(sizeof(float));
}

// Of either way: delta (attention_delta.h).
inline int64_t attention_backward_workspace(const AttentionShape& shape) {
  return shape.heads * shape.tokens * static_cast<int64_t>(sizeof(float));
}

// ---- likeliest.cu: a list of candidates a part of the logits

constexpr int64_t logits_of_part = 8192, most_of_part = 512;
inline int64_t parts_of_logits(const SampleShape& shape) {
  return shape.ranks * llama_tp::ceil_div(shape.columns, logits_of_part);
}
inline int64_t sample_workspace(const SampleShape& shape) {
  const auto of_part = most_of_part * static_cast<int64_t>(sizeof(uint64_t)) + static_cast<int64_t>(sizeof(uint32_t));
  return shape.sequences * parts_of_logits(shape) * of_part;
}

// ---- sums.cu: a sum a block

constexpr int64_t squares_a_block = 65536;
inline int64_t add_sum_of_squares_workspace(int64_t n) {
  return llama_tp::ceil_div(n, squares_a_block) * static_cast<int64_t>(sizeof(double));
}

}  // namespace llama_tp::kernels
