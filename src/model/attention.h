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
  Tensor q;    // [A, T, D]  turned
  Tensor k;    // [G, C, D]  turned; C = T in training, the cache's rows in generation
  Tensor v;    // [G, C, D]
  Tensor out;  // [T, A·D]   before the output projection
  Tensor lse;  // [A, T] f32 log Σ exp of the scores; absent in generation
};

class Attention {
 public:
  Attention(const ModelConfig& config, const LayerLayout& layout, const BlockWeights& weights, Runtime& runtime)
      : config_(config),
        layout_(layout),
        weights_(weights),
        runtime_(runtime),
        tp_(runtime.tp, layout.attention_split) {}

  // Memory of `saved` for T tokens: kept until backward, or (generation) inside a frame, with the cache's keys and
  // values.
  AttentionSaved push_saved(int64_t tokens) const;
  AttentionSaved take_saved(Frame& frame, int64_t tokens, const Tensor& keys, const Tensor& values) const;

  // Fills saved from x = norm(residual): [T, H].
  void attend(const Tensor& x, const Batch& batch, const Tensor& rope, const AttentionSaved& saved) const;
  // y[T, H] = saved.out · Wᵒ, summed over the ranks.
  void project(const AttentionSaved& saved, const Tensor& y) const;

  // From dy [T, H] to dx [T, H] (written), the gradients of the weights added on the way. x: [T, H] as attend saw it.
  void backward(const Tensor& dy, const Tensor& x, const Batch& batch, const Tensor& rope, const AttentionSaved& saved,
                const Tensor& dx) const;

 private:
  AttentionOptions options() const { return {config_.attention_scale, config_.window}; }

  const ModelConfig& config_;
  const LayerLayout& layout_;
  const BlockWeights& weights_;
  Runtime& runtime_;
  TensorParallel tp_;
};

}  // namespace llama_tp
