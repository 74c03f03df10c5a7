// The scalars of an optimizer's step, for the CPU and for the kernel: both take the same step.
#pragma once

#include <cmath>

#include "base/for_both.h"
#include "base/operation_options.h"

namespace llama_tp {

// min(1, max_norm / (sqrt(squared_norm) + 1e-6)) in f32, by which gradients are multiplied (torch's clip_grad_norm_);
// max_norm 0: no clipping. NaN in the norm reaches every weight, as in torch: hiding it would train on garbage.
LLAMA_TP_FOR_BOTH inline float clip_coefficient(double max_norm, double squared_norm) {
  if (max_norm <= 0) return 1;
  const float coefficient = static_cast<float>(max_norm) / (static_cast<float>(std::sqrt(squared_norm)) + 1e-6f);
  return coefficient > 1 ? 1.0f : coefficient;
}

// Computed in f64 and rounded to f32 where torch does.
struct AdamWStep {
  double max_grad_norm;
  float keep, beta1_rest, beta2, beta2_rest, root_correction2, epsilon, minus_step_size;
};

inline AdamWStep step_of(const AdamWOptions& options) {
  const double rate = options.learning_rate;
  const auto count = static_cast<double>(options.step);
  AdamWStep step{};
  step.max_grad_norm = options.max_grad_norm;
  step.keep = static_cast<float>(1 - rate * options.weight_decay);
  step.beta1_rest = static_cast<float>(1 - options.beta1);
  step.beta2 = static_cast<float>(options.beta2);
  step.beta2_rest = static_cast<float>(1 - options.beta2);
  step.root_correction2 = static_cast<float>(std::sqrt(1 - std::pow(options.beta2, count)));
  step.epsilon = static_cast<float>(options.epsilon);
  step.minus_step_size = static_cast<float>(-rate / (1 - std::pow(options.beta1, count)));
  return step;
}

}  // namespace llama_tp
