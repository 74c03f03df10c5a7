// Tensors of the operations as the sizes that the kernels are asked with, and which attention kernels these go to.
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

// Which of attention's kernels run.
enum class AttentionWay : uint8_t {
  hopper,       // attention_forward_hopper.cu, attention_backward_hopper.cu
  tiles,        // attention_forward.cu, attention_backward.cu
  few_queries,  // attention_few_queries.cu; backward that of rows
  rows          // attention_rows.cu, attention_rows_backward.cu
};

// A tile of queries is worth its loads when it is at least a warp's rows full.
constexpr int64_t queries_worth_tiles = 16;

// on_hopper: what kernels::runs_hopper_tiles() says; false is the way on any other GPU.
inline AttentionWay attention_way(DType dtype, const kernels::AttentionShape& shape, bool on_hopper) {
  if (dtype != DType::bf16) return AttentionWay::rows;
  if (kernels::has_tiles(shape.head_dim) && shape.longest_query >= queries_worth_tiles) {
    const bool has_rows = shape.tokens > 0 && shape.cache > 0;
    const bool hopper = on_hopper && kernels::has_hopper_tiles(shape.head_dim) && has_rows;
    return hopper ? AttentionWay::hopper : AttentionWay::tiles;
  }
  return kernels::has_few_queries(shape.head_dim) ? AttentionWay::few_queries : AttentionWay::rows;
}

inline kernels::HeadNormShape shape_of(const Tensor& qkv, const HeadNorms& norms) {
  const int64_t head_dim = norms.q.shape[0];
  return {norms.heads, (qkv.shape[1] / head_dim - norms.heads) / 2, head_dim, norms.epsilon};
}

}  // namespace llama_tp
