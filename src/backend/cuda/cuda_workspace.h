// What this program's kernels need of scratch memory, and the pieces of the loss on a GPU: for a backend that runs the
// kernels and for one that only plans them. Of shapes alone.
#pragma once

#include <algorithm>

#include "backend/cuda/shapes.h"
#include "kernels/workspace.h"

namespace llama_tp {

// Base: Backend, or a class derived from it. The products are left to those who derive from it.
template <class Base>
class CudaWorkspace : public Base {
 public:
  // For each byte of the weight the product of t tokens' logits does t FLOP, that of its gradient, which is read and
  // written in f32, t / 4. An H200 does 206 FLOP in the time of a byte from memory.
  LossTokens loss_tokens(int64_t, DType) const override { return {1024, 2048}; }
  // By NCCL's own model of it a ring of eight takes 32 µs beside its bytes; 64 MiB take 130 µs through links of 450 GB/s. A
  // product of 2,048 tokens has at least as many tiles of 128 × 256 as an H200 has multiprocessors, 132, from 2,304 columns
  // on.
  int64_t token_parts(int64_t tokens, int64_t bytes) const override {
    return std::clamp<int64_t>(std::min(bytes / (64 << 20), tokens / 2048), 1, most_token_parts);
  }

  int64_t bias_backward_workspace(const Tensor&, const Tensor&) override { return 0; }
  int64_t norm_backward_workspace(const Tensor& dy, const NormOptions& options) override {
    return kernels::norm_backward_workspace(options, dy.shape[0], dy.shape[1]);
  }
  int64_t head_norm_backward_workspace(const Tensor& qkv, const HeadNorms& norms) override {
    return kernels::head_norm_backward_workspace(shape_of(qkv, norms), qkv.shape[0]);
  }
  int64_t attention_forward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) override {
    const kernels::AttentionShape shape = shape_of(q, k, sequences);
    // In tiles it takes none, on Hopper as on any other GPU: a plan need not know which it is.
    const AttentionWay way = attention_way(q.dtype, shape, false);
    return way == AttentionWay::tiles ? 0 : kernels::attention_forward_rows_workspace(shape);
  }
  int64_t attention_backward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) override {
    return kernels::attention_backward_workspace(shape_of(q, k, sequences));
  }
  int64_t embedding_backward_workspace(const Tensor&, const Tensor&) override { return 0; }
  int64_t sample_workspace(const Tensor& logits) override {
    return kernels::sample_workspace({logits.shape[0], logits.shape[1], logits.shape[2], 0});
  }
  int64_t add_sum_of_squares_workspace(const Tensor& x) override {
    return kernels::add_sum_of_squares_workspace(x.elements());
  }
};

}  // namespace llama_tp
