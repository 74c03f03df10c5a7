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

// y[T, N] = enter(x) · Wᵀ (+ bias), of x [S, K]: column-parallel. A part of the tokens is multiplied while the next one is
// gathered.
inline void column_parallel_forward(Runtime& runtime, const TensorParallel& tp, const Tensor& x, const Linear& linear,
                                    const Tensor& y) {
  Frame frame(runtime.step);
  const Tensor whole = tp.take_whole(frame, x);  // [T, K]
  tp.begin_enter(x, whole).each_part([&](int64_t begin, int64_t count) {
    linear_forward(runtime.backend, whole.rows(begin, count), linear, y.rows(begin, count));
  });
}

// Its backward: what linear_backward computes, with dy [T, N] and dx [S, K]; entering: what begin_enter(x) gave. Collectives
// run beside products: x is gathered while dy · W is computed, and that is summed while dW is (as in Megatron-LM, whose
// linear layers do so with gradients that are added in place). dx may take x's place but where the ranks sum it whole,
// since x is read then.
inline void column_parallel_backward(Runtime& runtime, const TensorParallel& tp, const Tensor& dy, InFlight entering,
                                     const Linear& linear, const Tensor& dx) {
  Backend& backend = runtime.backend;
  if (!tp.communicates()) return linear_backward(backend, dy, entering.wait(), linear, dx);
  Frame frame(runtime.step);
  const Tensor partial = tp.take_whole(frame, dx);  // [T, K]
  backend.linear_backward_input(dy, linear.weight->value, partial);
  const Tensor x = entering.wait();  // [T, K]
  InFlight sum = tp.begin_enter_backward(partial, dx);
  linear_backward_weight(backend, dy, x, linear);
  sum.wait();
}

// y[S, N] = leave(x · Wᵀ + bias), of x [T, K]: row-parallel. A part of the tokens is summed over the ranks while the next
// one is multiplied.
inline void row_parallel_forward(Runtime& runtime, const TensorParallel& tp, const Tensor& x, const Linear& linear,
                                 const Tensor& y) {
  Frame frame(runtime.step);
  const Tensor partial = tp.take_whole(frame, y);  // [T, N]
  tp.leave(partial, y, [&](int64_t begin, int64_t count) {
    linear_forward(runtime.backend, x.rows(begin, count), linear, partial.rows(begin, count), tp.adds_bias());
  });
}

// dx[T, K] = dy · W, of dy [S, N], which is gathered likewise into `whole`: [T, N], from take_whole(dy), which
// linear_backward_weight needs then.
inline void row_parallel_backward_input(Runtime& runtime, const TensorParallel& tp, const Tensor& dy,
                                        const Tensor& whole, const Linear& linear, const Tensor& dx) {
  tp.begin_leave_backward(dy, whole).each_part([&](int64_t begin, int64_t count) {
    runtime.backend.linear_backward_input(whole.rows(begin, count), linear.weight->value, dx.rows(begin, count));
  });
}

}  // namespace llama_tp
