// Tensors of the operations as the sizes that the kernels are asked with, and which attention kernels they go to.
#pragma once

#include "backend/backend.h"
#include "kernels/kernels.h"

namespace llama_tp {

inline kernels::AttentionShape shape_of(const Tensor& q, const Tensor& k, const Sequences& sequences) {
  return {.heads = q.shape[0],
          .kv_heads = k.shape[0],
          .head_dim = q.shape[2],
          .tokens = q.shape[1],
          .cache = k.shape[1],
          .ranges = sequences.ranges.as<int32_t>(),
          .sequences = sequences.count,
          .longest_query = sequences.longest_query,
          .longest_key = sequences.longest_key};
}

// A tile of queries is worth its loads when it is at least a warp's rows full.
constexpr int64_t queries_worth_tiles = 16;
inline bool in_tiles(const Tensor& q, const Sequences& sequences) {
  return q.dtype == DType::bf16 && kernels::has_tiles(q.shape[2]) && sequences.longest_query >= queries_worth_tiles;
}

inline kernels::HeadNormShape shape_of(const Tensor& qkv, const HeadNorms& norms) {
  const int64_t head_dim = norms.q.shape[0];
  return {norms.heads, (qkv.shape[1] / head_dim - norms.heads) / 2, head_dim, norms.epsilon};
}

}  // namespace llama_tp
