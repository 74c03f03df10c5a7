// The last product and the loss. The vocabulary is split over the tensor-parallel ranks and logits are never gathered
// in training: each rank tells the others three numbers a token (Shoeybi et al. 2019). Tokens go through in pieces, so
// that f32 logits are never held whole; the gradients of some pieces' logits, a chunk, go straight on to the weight and
// to the hidden states, whose place they take.
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
  void piece(const Tensor& x, const Tensor& targets, float scale, const Tensor& dlogits, const Tensor& loss) const;
  void pieces(const Tensor& x, const Tensor& targets, float scale, const Tensor& dlogits, const Tensor& loss) const;
  // The loss and all gradients of x: [n, H].
  void chunk(const Tensor& x, const Tensor& targets, float scale, const Tensor& loss) const;
  // logits[n, V] = multiplier · x[n, H] · Wᵀ
  void product(const Tensor& x, const Tensor& logits) const;
  LossTokens loss_tokens() const { return runtime_.backend.loss_tokens(slice_.rows, runtime_.dtype); }
  int64_t ranks() const { return slice_.split ? runtime_.groups.tensor.size() : 1; }

  const Weight& weight_;
  const VocabularySlice& slice_;
  float multiplier_;
  Runtime& runtime_;
  TensorParallel tp_;
};

}  // namespace llama_tp
