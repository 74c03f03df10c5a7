// A product with a stored weight and its optional bias, forward and backward.
#pragma once

#include "backend/backend.h"
#include "model/parameters.h"

namespace llama_tp {

// y[T, N] = x[T, K] · Wᵀ (+ bias). with_bias: a row-parallel product adds its bias on one rank only.
inline void linear_forward(Backend& backend, const Tensor& x, const Linear& linear, const Tensor& y,
                           bool with_bias = true) {
  backend.linear_forward(x, linear.weight->value, with_bias ? linear.bias_value() : Tensor{}, y);
}

// dW += dyᵀ · x; dbias += Σ dy; dx[T, K] = dy[T, N] · W
inline void linear_backward(Backend& backend, const Tensor& dy, const Tensor& x, const Linear& linear,
                            const Tensor& dx) {
  backend.linear_backward_weight(dy, x, linear.weight->gradient);
  if (linear.bias != nullptr) backend.bias_backward(dy, linear.bias->gradient);
  backend.linear_backward_input(dy, linear.weight->value, dx);
}

}  // namespace llama_tp
