// The backend of a rehearsal: every operation does nothing but being counted by its front, and memory is not taken.
#pragma once

#include "backend/backend.h"

namespace llama_tp {

// Says nothing of scratch memory: that is left to those who derive from it.
class IdleBackend : public Backend {
 public:
  void* reserve(int64_t) override { return nullptr; }
  void release(void*, int64_t) override {}
  void upload(const void*, const Tensor&) override {}
  void download(const Tensor&, void*) override {}
  void synchronize() override {}
  double read_bandwidth(double) override { return 0; }

 protected:
  void run_linear_forward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, void*) override {}
  void run_linear_backward_input(const Tensor&, const Tensor&, const Tensor&, void*) override {}
  void run_linear_backward_weight(const Tensor&, const Tensor&, const Tensor&, void*) override {}
  void run_bias_backward(const Tensor&, const Tensor&, void*) override {}
  void run_norm_forward(const Tensor&, const Tensor&, const Tensor&, const NormOptions&, const Tensor&,
                        const Tensor&) override {}
  void run_add_norm_forward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const NormOptions&,
                            const Tensor&, const Tensor&, const Tensor&) override {}
  void run_norm_apply(const Tensor&, const Tensor&, const Tensor&, const NormOptions&, const Tensor&,
                      const Tensor&) override {}
  void run_norm_backward(const Tensor&, const Tensor&, const Tensor&, const NormOptions&, const Tensor&, const Tensor&,
                         const Tensor&, const Tensor&, void*) override {}
  void run_head_norm_forward(const Tensor&, const HeadNorms&, const Tensor&) override {}
  void run_head_norm_backward(const Tensor&, const HeadNorms&, const Tensor&, const Tensor&, const Tensor&,
                              void*) override {}
  void run_rope_table(const Tensor&, const Tensor&, float, const Tensor&) override {}
  void run_rope_forward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                        const Tensor&) override {}
  void run_rope_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&) override {}
  void run_attention_forward(const Tensor&, const Tensor&, const Tensor&, const Sequences&, const AttentionOptions&,
                             const Tensor&, const Tensor&, void*) override {}
  void run_attention_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                              const Sequences&, const AttentionOptions&, const Tensor&, const Tensor&, const Tensor&,
                              void*) override {}
  void run_activation_forward(const Tensor&, const ActivationOptions&, const Tensor&) override {}
  void run_activation_backward(const Tensor&, const Tensor&, const ActivationOptions&) override {}
  void run_embedding_forward(const Tensor&, const Tensor&, int64_t, const Tensor&) override {}
  void run_embedding_backward(const Tensor&, const Tensor&, int64_t, int64_t, const Tensor&, void*) override {}
  void run_cross_entropy_statistics(const Tensor&, const Tensor&, int64_t, int64_t, const Tensor&) override {}
  void run_cross_entropy_loss(const Tensor&, const Tensor&, const Tensor&, const Tensor&) override {}
  void run_cross_entropy_backward(const Tensor&, const Tensor&, const Tensor&, int64_t, int64_t, float,
                                  const Tensor&) override {}
  void run_sample(const Tensor&, int64_t, const Tensor&, const Tensor&, const SamplingOptions&, const Tensor&,
                  const Tensor&, void*) override {}
  void run_feed_choices(const Tensor&, const Tensor&, const Tensor&) override {}
  void run_add(const Tensor&, const Tensor&) override {}
  void run_scale(const Tensor&, float, const Tensor&) override {}
  void run_zero(const Tensor&) override {}
  void run_gather_rows(const Tensor&, const Tensor&, const Tensor&) override {}
  void run_add_sum_of_squares(const Tensor&, const Tensor&, void*) override {}
  void run_adamw(const AdamWOptions&, const OptimizerTensors&, const Tensor&) override {}
};

// What scratch memory an operation would need is asked of the backend that the rehearsal stands for, which also
// prepares its primitives for these shapes.
class MetaBackend : public IdleBackend {
 public:
  explicit MetaBackend(Backend& planned) : planned_(planned) {}

  LossTokens loss_tokens(int64_t columns, DType gradients) const override {
    return planned_.loss_tokens(columns, gradients);
  }
  int64_t token_parts(int64_t tokens, int64_t bytes) const override { return planned_.token_parts(tokens, bytes); }
  std::string description() const override { return "rehearsal of " + planned_.description(); }

  int64_t linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) override {
    return planned_.linear_forward_workspace(x, w, bias, y);
  }
  int64_t linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) override {
    return planned_.linear_backward_input_workspace(dy, w, dx);
  }
  int64_t linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) override {
    return planned_.linear_backward_weight_workspace(dy, x, dw);
  }
  int64_t bias_backward_workspace(const Tensor& dy, const Tensor& db) override {
    return planned_.bias_backward_workspace(dy, db);
  }
  int64_t norm_backward_workspace(const Tensor& dy, const NormOptions& options) override {
    return planned_.norm_backward_workspace(dy, options);
  }
  int64_t head_norm_backward_workspace(const Tensor& qkv, const HeadNorms& norms) override {
    return planned_.head_norm_backward_workspace(qkv, norms);
  }
  int64_t attention_forward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) override {
    return planned_.attention_forward_workspace(q, k, sequences);
  }
  int64_t attention_backward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) override {
    return planned_.attention_backward_workspace(q, k, sequences);
  }
  int64_t embedding_backward_workspace(const Tensor& ids, const Tensor& dtable) override {
    return planned_.embedding_backward_workspace(ids, dtable);
  }
  int64_t sample_workspace(const Tensor& logits) override { return planned_.sample_workspace(logits); }
  int64_t add_sum_of_squares_workspace(const Tensor& x) override { return planned_.add_sum_of_squares_workspace(x); }

 private:
  Backend& planned_;
};

}  // namespace llama_tp
