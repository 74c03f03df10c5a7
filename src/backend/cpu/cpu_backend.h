// The operations on the cores of one process: matrix products by oneDNN (linear_*.cpp), matrix-vector products and
// attention by own kernels, the element-wise rest by loops that the compiler vectorizes. Each operation's file has the
// operation's name.
#pragma once

#include <memory>
#include <string>

#include "backend/device.h"

namespace llama_tp {

class OneDnn;

class CpuBackend : public Backend {
 public:
  // bf16_products: whether oneDNN multiplies bf16 itself; else products of bf16 are done in f32. why: what
  // description() ends with. sharers: backends that start together and share the memory. Errors: threads < 1.
  CpuBackend(int threads, bool bf16_products, std::string why = "", int sharers = 1);
  ~CpuBackend() override;

  // Anonymous pages, huge where the system allows; each belongs to the memory of the core that first writes it.
  void* reserve(int64_t bytes) override;
  void release(void* base, int64_t bytes) override;
  void upload(const void* host, const Tensor& tensor) override;
  bool is_host() const override { return true; }
  void download(const Tensor& tensor, void* host) override;
  void synchronize() override {}
  // This one's share of what was free when it was made, before any of them took some.
  int64_t free_memory() const override;
  LossTokens loss_tokens(int64_t columns, DType gradients) const override;
  int64_t token_parts(int64_t, int64_t) const override { return 1; }
  double read_bandwidth(double most_seconds) override;
  std::string description() const override;

  int64_t linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) override;
  int64_t linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) override;
  int64_t linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) override;
  int64_t bias_backward_workspace(const Tensor& dy, const Tensor& db) override;
  int64_t norm_backward_workspace(const Tensor& dy, const NormOptions& options) override;
  int64_t head_norm_backward_workspace(const Tensor& qkv, const HeadNorms& norms) override;
  int64_t attention_forward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) override;
  int64_t attention_backward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) override;
  int64_t embedding_backward_workspace(const Tensor& ids, const Tensor& dtable) override;
  int64_t sample_workspace(const Tensor& logits) override;
  int64_t add_sum_of_squares_workspace(const Tensor& x) override;

 protected:
  // linear_forward.cpp, linear_backward_input.cpp, linear_backward_weight.cpp
  void run_linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                          void* workspace) override;
  void run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) override;
  void run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) override;
  void run_bias_backward(const Tensor& dy, const Tensor& db, void* workspace) override;

  // norm.cpp
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

  // rope.cpp
  void run_rope_table(const Tensor& positions, const Tensor& frequencies, float scale, const Tensor& table) override;
  void run_rope_forward(const Tensor& qkv, const Tensor& table, const Tensor& slots, const Tensor& q, const Tensor& k,
                        const Tensor& v) override;
  void run_rope_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& table,
                         const Tensor& dqkv) override;

  // attention_forward.cpp, attention_backward.cpp
  void run_attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences,
                             const AttentionOptions& options, const Tensor& out, const Tensor& lse,
                             void* workspace) override;
  void run_attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                              const Tensor& lse, const Sequences& sequences, const AttentionOptions& options,
                              const Tensor& dq, const Tensor& dk, const Tensor& dv, void* workspace) override;

  // activation.cpp
  void run_activation_forward(const Tensor& input, const ActivationOptions& options, const Tensor& y) override;
  void run_activation_backward(const Tensor& dy, const Tensor& input, const ActivationOptions& options) override;

  // embedding.cpp
  void run_embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y) override;
  void run_embedding_backward(const Tensor& ids, const Tensor& dy, int64_t first_row, int64_t skip_id,
                              const Tensor& dtable, void* workspace) override;

  // cross_entropy.cpp
  void run_cross_entropy_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column, int64_t columns,
                                    const Tensor& statistics) override;
  void run_cross_entropy_loss(const Tensor& gathered, const Tensor& targets, const Tensor& lse,
                              const Tensor& loss) override;
  void run_cross_entropy_backward(const Tensor& logits, const Tensor& targets, const Tensor& lse, int64_t first_column,
                                  int64_t columns, float scale, const Tensor& dlogits) override;

  // sample.cpp
  void run_sample(const Tensor& logits, int64_t vocabulary, const Tensor& recent, const Tensor& uniforms,
                  const SamplingOptions& options, const Tensor& ids, const Tensor& chances, void* workspace) override;
  void run_feed_choices(const Tensor& ids, const Tensor& next, const Tensor& recent) override;

  // elementwise.cpp, adamw.cpp
  void run_add(const Tensor& x, const Tensor& y) override;
  void run_scale(const Tensor& x, float factor, const Tensor& y) override;
  void run_zero(const Tensor& x) override;
  void run_gather_rows(const Tensor& x, const Tensor& rows, const Tensor& y) override;
  void run_add_sum_of_squares(const Tensor& x, const Tensor& result, void* workspace) override;
  void run_adamw(const AdamWOptions& options, const OptimizerTensors& tensors, const Tensor& squared_norm) override;

 private:
  // Whether oneDNN takes this type as it is.
  bool direct(DType dtype) const { return dtype == DType::f32 || bf16_products_; }
  // Whether dy of this type is transposed before its product with x.
  bool transposes(DType dtype) const { return matrix_tiles_ && bf16_products_ && dtype == DType::bf16; }

  const int threads_;
  const bool bf16_products_, matrix_tiles_;
  const std::string why_;
  const int64_t free_at_first_, taken_at_first_;
  std::unique_ptr<OneDnn> onednn_;
};

// why: no other device was taken, if there is something to say.
std::unique_ptr<Backend> make_cpu_backend(const DevicePlace& place, const std::string& why = "");

}  // namespace llama_tp
