// One block of the transformer, pre-norm (Touvron et al. 2023):
//   middle = residual + m · attention(norm(residual));   out = middle + m · mlp(norm(middle))
// with m, the residual multiplier, 1 in most families. Its forward is cut within the mlp, in front of the last product:
//
//                         forward_to_up                          ┊  forward_from_up
//   in.residual ──────────────────────────+─ middle ─────────────┊──────────────────────+─┬─────────────── out.residual
//                                         │    └─ norm ── [up] ──┊─ activation ── [down]┘ └─ next norm ─── out.normed
//   in.normed ── [qkv] ── attention ── [o]┘                      ┊
//
// All that backward needs is there before the cut, so recompute does the first half alone. The addition at the end is
// fused with the norm that opens the next block, so a block takes its input already normed.
#pragma once

#include "model/attention.h"
#include "model/mlp.h"

namespace llama_tp {

// The residual stream between two blocks. S: the tokens that this rank holds of it, all T or, under sequence
// parallelism, T / ranks.
struct Stream {
  Tensor residual;    // [S, H]  kept for backward
  Tensor statistics;  // [S] f32, [S, 2] for a layer norm: of norm(residual); kept for backward
  Tensor normed;      // [S, H]  norm(residual); consumed at once, computed again in backward
};

struct BlockSaved {
  AttentionSaved attention;
  Tensor middle;             // [S, H]  the residual stream between attention and mlp
  Tensor middle_statistics;  // [S] f32, [S, 2] for a layer norm
  MlpSaved mlp;
};

// What the ledger calls the stream's saved tensors.
inline Category stream_category(bool sequence_parallel) {
  return sequence_parallel ? Category::saved_split : Category::saved_whole;
}

class Block {
 public:
  Block(const ModelConfig& config, const LayerLayout& layout, const BlockWeights& weights, Runtime& runtime)
      : config_(config),
        weights_(weights),
        runtime_(runtime),
        sequence_parallel_(layout.sequence_parallel),
        attention_(config, layout, weights, runtime),
        mlp_(config, layout, weights, runtime) {}

  // For T tokens, of which `in` holds S.
  BlockSaved push_saved(int64_t tokens, const Stream& in) const;
  // Generation: nothing is kept but keys and values. The middle of the stream takes the place of its beginning.
  BlockSaved take_saved(Frame& frame, int64_t tokens, const Tensor& keys, const Tensor& values, const Stream& in) const;

  // Fills all of saved.
  void forward_to_up(const Stream& in, const Batch& batch, const Tensor& rope, const BlockSaved& saved) const;
  // out.residual = saved.middle + mlp; out.normed = next_norm(out.residual). Buffers of `out` may be those of the
  // input.
  void forward_from_up(const BlockSaved& saved, const Norm& next_norm, const Stream& out) const;

  // dx: [S, H], the gradient of the residual stream behind the block, turned into the one before it.
  void backward(const Tensor& dx, const Stream& in, const Batch& batch, const Tensor& rope,
                const BlockSaved& saved) const;

  const Norm& first_norm() const { return weights_.attention_norm; }

 private:
  const ModelConfig& config_;
  const BlockWeights& weights_;
  Runtime& runtime_;
  bool sequence_parallel_;
  Attention attention_;
  Mlp mlp_;
};

}  // namespace llama_tp
