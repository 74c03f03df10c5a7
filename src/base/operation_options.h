// What the operations of backend/backend.h are told besides tensors; kernels are told it by the same words.
#pragma once

#include <cstdint>

namespace llama_tp {

// y = x̂ · (offset + w) + b. A norm that centers has x̂ = (x − mean) / sqrt(var + ε); one that does not has x̂ = x /
// sqrt(mean(x²) + ε) and no b.
struct NormKind {
  bool centers;
  float offset;
  bool operator==(const NormKind&) const = default;
  static const NormKind rms, rms_1p, layer_norm, layer_norm_1p;
};
constexpr NormKind NormKind::rms{.centers = false, .offset = 0};           // Zhang & Sennrich 2019
constexpr NormKind NormKind::rms_1p{.centers = false, .offset = 1};        // Gemma
constexpr NormKind NormKind::layer_norm{.centers = true, .offset = 0};     // Ba, Kiros & Hinton 2016
constexpr NormKind NormKind::layer_norm_1p{.centers = true, .offset = 1};  // Nemotron-4

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

// A target that counts for nothing, and the label that becomes it: torch's and Hugging Face's ignore_index.
constexpr int32_t ignored_label = -100;

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
