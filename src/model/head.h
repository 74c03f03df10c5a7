// The last product and the loss. The vocabulary is split over the tensor-parallel ranks, and in training logits are
// never gathered: of each token a rank tells the others three numbers (the largest logit, Σ exp, the target's logit;
// Shoeybi et al. 2019). Tokens are taken in chunks, and a chunk in pieces, so that the logits of all tokens never exist
// at once: of each piece the f32 logits, the loss, and dlogits in the run's type; then, of the whole chunk, dW +=
// dlogitsᵀ · x and dx = dlogits · W, which is written over x.
#pragma once

#include "model/batch.h"
#include "model/config.h"
#include "model/parameters.h"
#include "model/runtime.h"
#include "parallel/tensor_parallel.h"

namespace llama_tp {

class Head {
 public:
  // multiplier: of the logits.
  Head(const Weight& weight, const VocabularySlice& slice, float multiplier, Runtime& runtime)
      : weight_(weight),
        slice_(slice),
        multiplier_(multiplier),
        runtime_(runtime),
        tp_(runtime.groups.tensor, runtime.backend,
            {.split = slice.split,
             .sequence_parallel = slice.sequence_parallel,
             .token_bytes = weight.shape[1] * size_of(runtime.dtype)}) {}

  // loss[0] += Σ of −log p(target) over the targets of `batch` that are not ignored ([1] f64). x: [S, H], the normed
  // hidden states; targets: [T].
  void add_loss(const Tensor& x, const Tensor& targets, const Tensor& loss) const;
  // The same; the gradient of scale · Σ is added to the weight's and written over x.
  void add_loss_and_gradient(const Tensor& x, const Tensor& targets, float scale, const Tensor& loss) const;

  // Tensors of a product of n rows with the whole vocabulary, in the order of the ranks: [ranks, n, V] f32.
  Tensor take_logits(Frame& frame, int64_t rows) const;
  // logits of x: [n, H], gathered over the ranks into a tensor from take_logits.
  void gathered_logits(const Tensor& x, const Tensor& logits) const;
  // Row `row` of gathered logits in host memory ([ranks, n, V]), without the padding: [vocabulary].
  void assemble_row(const float* gathered, int64_t rows, int64_t row, std::span<float> vocabulary) const;

 private:
  // loss[0] += the loss of x: [n, H]; dlogits: [n, V], written, or nothing.
  void add_loss_of_piece(const Tensor& x, const Tensor& targets, float scale, const Tensor& dlogits,
                         const Tensor& loss) const;
  void add_loss_of_pieces(const Tensor& x, const Tensor& targets, float scale, const Tensor& dlogits,
                          const Tensor& loss) const;
  // The loss and all gradients of x: [n, H].
  void add_loss_and_gradient_of_chunk(const Tensor& x, const Tensor& targets, float scale, const Tensor& loss) const;
  // logits[n, V] = multiplier · x[n, H] · Wᵀ
  void compute_logits(const Tensor& x, const Tensor& logits) const;
  LossTokens loss_tokens() const { return runtime_.backend.loss_tokens(slice_.rows, runtime_.dtype); }
  int64_t ranks() const { return slice_.split ? runtime_.groups.tensor.size() : 1; }

  const Weight& weight_;
  const VocabularySlice& slice_;
  float multiplier_;
  Runtime& runtime_;
  TensorParallel tp_;
};

}  // namespace llama_tp
