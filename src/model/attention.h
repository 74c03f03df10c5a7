// Grouped-query self-attention with rotary positions; heads are split over the tensor-parallel ranks.
#pragma once

#include "model/batch.h"
#include "model/config.h"
#include "model/parameters.h"
#include "model/runtime.h"
#include "parallel/tensor_parallel.h"

namespace llama_tp {

// What forward leaves for backward. A: this rank's heads, G: its key/value heads, D: head size.
struct AttentionSaved {
  // q and k after the rotary positions. Where heads have norms, training keeps qkv instead, and computes q, k, v again.
  Tensor q;    // [A, T, D]
  Tensor k;    // [G, C, D]  C = T in training, the cache's rows in generation
  Tensor v;    // [G, C, D]
  Tensor out;  // [T, A·D]   before the output projection
  Tensor lse;  // [A, T] f32 log Σ exp of the scores; absent in generation
  Tensor qkv;  // [T, (A + 2G)·D]  packed, before the heads' norms; only in training with such norms
};

class Attention {
 public:
  Attention(const ModelConfig& config, const LayerLayout& layout, const BlockWeights& weights, Runtime& runtime)
      : config_(config),
        layout_(layout),
        weights_(weights),
        runtime_(runtime),
        tp_(runtime.groups.tensor, runtime.backend,
            {.split = layout.attention_split,
             .sequence_parallel = layout.sequence_parallel,
             .token_bytes = config.hidden * size_of(runtime.dtype)}) {}

  // Memory of `saved` for T tokens: kept until backward, or (generation) inside a frame, with the cache's keys and
  // values.
  AttentionSaved push_saved(int64_t tokens) const;
  AttentionSaved take_saved(Frame& frame, int64_t tokens, const Tensor& keys, const Tensor& values) const;

  // Fills saved from x = norm(residual): [S, H].
  void attend(const Tensor& x, const Batch& batch, const Tensor& rope, const AttentionSaved& saved) const;
  // y[S, H] = saved.out · Wᵒ, summed over the ranks.
  void project(const AttentionSaved& saved, const Tensor& y) const;

  // From dy [S, H], the gradients of the weights added on the way. x: [S, H] as attend saw it; dx: its gradient (where it
  // may take x's place: linear.h).
  void backward(const Tensor& dy, const Tensor& x, const Batch& batch, const Tensor& rope, const AttentionSaved& saved,
                const Tensor& dx) const;

 private:
  AttentionOptions options() const { return {config_.attention_scale, layout_.window}; }
  // What this layer rotates by: where it has no rotary positions, a table of no columns, which rotates nothing.
  Tensor rope_of_layer(const Tensor& rope) const {
    return layout_.rotary ? rope : Tensor{nullptr, DType::f32, {rope.shape[0], 0}};
  }
  // The same with q, k and v, taken from the frame where it keeps qkv.
  AttentionSaved with_heads(Frame& frame, const AttentionSaved& saved) const;
  // Fills q, k and v from qkv.
  void apply_rope(const Tensor& qkv, const Batch& batch, const Tensor& rope, const AttentionSaved& saved) const;
  // From dout: [T, A·D], the gradient of saved.out, to dqkv: [T, (A + 2G)·D], that of what apply_rope saw or, where heads
  // have norms, of these.
  void attend_backward(const Tensor& dout, const Batch& batch, const Tensor& rope, const AttentionSaved& saved,
                       const Tensor& dqkv) const;
  HeadNorms head_norms() const {
    return {weights_.q_norm.weight->value, weights_.k_norm.weight->value, layout_.heads, config_.norm.epsilon};
  }
  // Of packed q, k and v.
  int64_t width() const { return (layout_.heads + 2 * layout_.kv_heads) * config_.head_dim; }

  const ModelConfig& config_;
  const LayerLayout& layout_;
  const BlockWeights& weights_;
  Runtime& runtime_;
  TensorParallel tp_;
};

}  // namespace llama_tp
