// The feed-forward half of a block, gated (SwiGLU) or plain; its width is split over the tensor-parallel ranks.
#pragma once

#include "model/config.h"
#include "model/parameters.h"
#include "model/runtime.h"
#include "parallel/tensor_parallel.h"

namespace llama_tp {

// What forward leaves for backward. F: this rank's width.
struct MlpSaved {
  Tensor gate_up;  // [T, 2F] before the activation ([T, F], up alone, where there is no gate); backward writes its
                   // gradient over it
};

class Mlp {
 public:
  Mlp(const ModelConfig& config, const LayerLayout& layout, const BlockWeights& weights, Runtime& runtime)
      : config_(config),
        layout_(layout),
        weights_(weights),
        runtime_(runtime),
        tp_(runtime.groups.tensor, runtime.backend,
            {.split = layout.mlp_split,
             .sequence_parallel = layout.sequence_parallel,
             .token_bytes = config.hidden * size_of(runtime.dtype)}) {}

  MlpSaved push_saved(int64_t tokens) const;
  MlpSaved take_saved(Frame& frame, int64_t tokens) const;

  // saved.gate_up = x · W_gate_upᵀ from x = norm(residual): [S, H].
  void expand(const Tensor& x, const MlpSaved& saved) const;
  // y[S, H] = activation(saved.gate_up) · W_downᵀ, summed over the ranks.
  void contract(const MlpSaved& saved, const Tensor& y) const;

  // From dy [S, H], the gradients of the weights added on the way; the activation is computed again. x: [S, H] as expand
  // saw it; dx: its gradient (where it may take x's place: linear.h).
  void backward(const Tensor& dy, const Tensor& x, const MlpSaved& saved, const Tensor& dx) const;

 private:
  Shape gate_up_shape(int64_t tokens) const { return {tokens, (config_.activation.gated ? 2 : 1) * layout_.ffn}; }

  const ModelConfig& config_;
  const LayerLayout& layout_;
  const BlockWeights& weights_;
  Runtime& runtime_;
  TensorParallel tp_;
};

}  // namespace llama_tp
