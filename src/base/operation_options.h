// What the operations of backend/backend.h are told besides tensors; kernels are told it by the same words.
#pragma once

#include <cstdint>

namespace llama_tp {

enum class NormKind : uint8_t { rms, layer_norm_1p };
struct NormOptions {
  NormKind kind = NormKind::rms;
  float epsilon = 1e-5f;
};

enum class Activation : uint8_t { silu, gelu_tanh, relu_squared };
struct ActivationOptions {
  Activation kind = Activation::silu;
  bool gated = true;  // y = act(gate) * up with gate and up side by side; else y = act(input)
};

struct AttentionOptions {
  float scale = 1;     // of q·k, 1/sqrt(D) as a rule
  int64_t window = 0;  // a query sees at most the last `window` keys, itself among them; 0: all of them
};

struct AdamWOptions {
  double learning_rate = 5e-5, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  int64_t step = 1;          // from 1, for the bias corrections
  double max_grad_norm = 0;  // 0: no clipping
};

// How the next token is chosen; one after the other, as llama.cpp has it.
struct SamplingOptions {
  float repeat_penalty = 1;  // on the logits of tokens among the last penalty_window; 1: none
  int64_t top_k = 40;        // 0: all
  float top_p = 0.95f;       // 1: all
  float min_p = 0.05f;       // 0: all
  float temperature = 0.8f;  // 0: the most likely token
};
constexpr int64_t penalty_window = 64;

}  // namespace llama_tp
