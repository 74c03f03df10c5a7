// The operations as calls of the kernels in kernels/: shapes to sizes, tensors to typed pointers. Where memory comes
// from and who multiplies large matrices is left to those who derive from it: the GPU, or the emulation of the tests.
#pragma once

#include "backend/cuda/cuda_workspace.h"
#include "kernels/stream.h"

namespace llama_tp {

class CudaOperations : public CudaWorkspace<Backend> {
 protected:
  // y = x · wᵀ + bias for more tokens than matrix_vector.cu takes.
  virtual void multiply(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, void* workspace) = 0;

  void run_linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                          void* workspace) override;
  void run_bias_backward(const Tensor& dy, const Tensor& db, void* workspace) override;
  void run_norm_forward(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options, const Tensor& y,
                        const Tensor& statistics) override;
  void run_add_norm_forward(const Tensor& part, const Tensor& residual, const Tensor& w, const Tensor& b,
                            const NormOptions& options, const Tensor& sum, const Tensor& y,
                            const Tensor& statistics) override;
  void run_norm_apply(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                      const Tensor& statistics, const Tensor& y) override;
  void run_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w, const NormOptions& options,
                         const Tensor& statistics, const Tensor& dx, const Tensor& dw, const Tensor& db,
                         void* workspace) override;
  void run_head_norm_forward(const Tensor& qkv, const HeadNorms& norms, const Tensor& y) override;
  void run_head_norm_backward(const Tensor& qkv, const HeadNorms& norms, const Tensor& dqkv, const Tensor& dq,
                              const Tensor& dk, void* workspace) override;
  void run_rope_table(const Tensor& positions, const Tensor& frequencies, float scale, const Tensor& table) override;
  void run_rope_forward(const Tensor& qkv, const Tensor& table, const Tensor& slots, const Tensor& q, const Tensor& k,
                        const Tensor& v) override;
  void run_rope_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& table,
                         const Tensor& dqkv) override;
  void run_attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences,
                             const AttentionOptions& options, const Tensor& out, const Tensor& lse,
                             void* workspace) override;
  void run_attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                              const Tensor& lse, const Sequences& sequences, const AttentionOptions& options,
                              const Tensor& dq, const Tensor& dk, const Tensor& dv, void* workspace) override;
  void run_activation_forward(const Tensor& input, const ActivationOptions& options, const Tensor& y) override;
  void run_activation_backward(const Tensor& dy, const Tensor& input, const ActivationOptions& options) override;
  void run_embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y) override;
  void run_embedding_backward(const Tensor& ids, const Tensor& dy, int64_t first_row, int64_t skip_id,
                              const Tensor& dtable, void* workspace) override;
  void run_cross_entropy_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column, int64_t columns,
                                    const Tensor& statistics) override;
  void run_cross_entropy_loss(const Tensor& gathered, const Tensor& targets, const Tensor& lse,
                              const Tensor& loss) override;
  void run_cross_entropy_backward(const Tensor& logits, const Tensor& targets, const Tensor& lse, int64_t first_column,
                                  int64_t columns, float scale, const Tensor& dlogits) override;
  void run_sample(const Tensor& logits, int64_t vocabulary, const Tensor& recent, const Tensor& uniforms,
                  const SamplingOptions& options, const Tensor& ids, const Tensor& chances, void* workspace) override;
  void run_feed_choices(const Tensor& ids, const Tensor& next, const Tensor& recent) override;
  void run_add(const Tensor& x, const Tensor& y) override;
  void run_scale(const Tensor& x, float factor, const Tensor& y) override;
  void run_zero(const Tensor& x) override;
  void run_gather_rows(const Tensor& x, const Tensor& rows, const Tensor& y) override;
  void run_add_sum_of_squares(const Tensor& x, const Tensor& result, void* workspace) override;
  void run_adamw(const AdamWOptions& options, const OptimizerTensors& tensors, const Tensor& squared_norm) override;

  kernels::Stream stream_ = nullptr;
};

}  // namespace llama_tp
