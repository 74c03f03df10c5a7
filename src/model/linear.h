// A product with a stored weight and its optional bias, forward and backward.
#pragma once

#include "backend/backend.h"
#include "model/parameters.h"
#include "model/runtime.h"
#include "parallel/tensor_parallel.h"

namespace llama_tp {

// y[T, N] = x[T, K] · Wᵀ (+ bias). with_bias: a row-parallel product adds its bias on one rank only.
inline void linear_forward(Backend& backend, const Tensor& x, const Linear& linear, const Tensor& y,
                           bool with_bias = true) {
  backend.linear_forward(x, linear.weight->value, with_bias ? linear.bias_value() : Tensor{}, y);
}

// dW += dyᵀ · x; dbias += Σ dy
inline void linear_backward_weight(Backend& backend, const Tensor& dy, const Tensor& x, const Linear& linear) {
  backend.linear_backward_weight(dy, x, linear.weight->gradient);
  if (linear.bias != nullptr) backend.bias_backward(dy, linear.bias->gradient);
}

// Both, and dx[T, K] = dy[T, N] · W, which may take x's place.
inline void linear_backward(Backend& backend, const Tensor& dy, const Tensor& x, const Linear& linear,
                            const Tensor& dx) {
  linear_backward_weight(backend, dy, x, linear);
  backend.linear_backward_input(dy, linear.weight->value, dx);
}

// The same for a column-parallel product, y[T, N] = enter(x) · Wᵀ, with x and dx [S, H]. Collectives run beside products:
// x is gathered while dy · W is computed, and that is summed while dW is (as in Megatron-LM, whose linear layers do so
// with gradients that are added in place). dx may take x's place but where the ranks sum it whole, since x is read then.
inline void column_parallel_backward(Runtime& runtime, const TensorParallel& tp, const Tensor& dy, const Tensor& x,
                                     const Linear& linear, const Tensor& dx) {
  Backend& backend = runtime.backend;
  if (!tp.communicates()) return linear_backward(backend, dy, x, linear, dx);
  Frame frame(runtime.step);
  InFlight entered = tp.begin_enter(frame, x);       // [T, H]
  const Tensor partial = tp.take_partial(frame, dx);  // [T, H]
  backend.linear_backward_input(dy, linear.weight->value, partial);
  entered.pending.wait();
  Pending sum = tp.begin_enter_backward(partial, dx);
  linear_backward_weight(backend, dy, entered.whole, linear);
  sum.wait();
}

}  // namespace llama_tp
