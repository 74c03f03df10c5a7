// Column- and row-parallel products: a matrix product and the collective that belongs to it, forward and backward.
//
//   column_parallel   y[T, N] = enter(x[S, K]) · Wᵀ    W: this rank's rows of [out, in]; y is split by columns
//   row_parallel      y[S, N] = leave(x[T, K] · Wᵀ)    W: this rank's columns; x is split by columns
//
// linear_… are the products alone. W is stored [out, in] = [N, K], as PyTorch's are. S, T: tensor_parallel.h.
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

// dW += dyᵀ · x; dbias += Σ dy. Of a row-parallel product every rank does so, though one alone adds the bias: dy is whole
// on all of them, so the copies of the bias get the same gradient and stay equal without a sum.
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

// y[T, N] = enter(x[S, K]) · Wᵀ (+ bias). A part of the tokens is multiplied while the next one is gathered.
inline void column_parallel_forward(Runtime& runtime, const TensorParallel& tp, const Tensor& x, const Linear& linear,
                                    const Tensor& y) {
  Frame frame(runtime.step);
  const Tensor whole = tp.take_whole(frame, x);  // [T, K]
  tp.begin_enter(x, whole).each_part([&](int64_t begin, int64_t count) {
    linear_forward(runtime.backend, whole.rows(begin, count), linear, y.rows(begin, count));
  });
}

// Its backward: dx[S, K] = enter_backward(dy[T, N] · W), and dW += dyᵀ · x; entering: what begin_enter(x) gave. Collectives
// run beside products: x is gathered while dy · W is computed, and that is summed over the ranks while dW is computed
// (Megatron-LM: LinearWithGradAccumulationAndAsyncCommunication). For this dx comes before dW, which reads x. So dx may
// take x's place where nothing is sent, as dW comes first then, and sequence-parallel, as dW reads the gathered copy; where
// ranks sum it whole it must not.
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

// y[S, N] = leave(x[T, K] · Wᵀ + bias). A part of the tokens is summed over the ranks while the next one is multiplied.
// Each rank's term is rounded to the run's type before it is summed, as in Megatron-LM; f32 terms would double the bytes
// of bf16. So in bf16 the result differs from one rank's by these roundings, in f32 by the order of the sum alone.
inline void row_parallel_forward(Runtime& runtime, const TensorParallel& tp, const Tensor& x, const Linear& linear,
                                 const Tensor& y) {
  Frame frame(runtime.step);
  const Tensor partial = tp.take_whole(frame, y);  // [T, N]
  tp.leave(partial, y, [&](int64_t begin, int64_t count) {
    linear_forward(runtime.backend, x.rows(begin, count), linear, partial.rows(begin, count), tp.adds_bias());
  });
}

// Its backward: dx[T, K] = leave_backward(dy[S, N]) · W. dy is gathered into `whole`: [T, N], from take_whole(dy), which
// linear_backward_weight needs then.
inline void row_parallel_backward_input(Runtime& runtime, const TensorParallel& tp, const Tensor& dy,
                                        const Tensor& whole, const Linear& linear, const Tensor& dx) {
  tp.begin_leave_backward(dy, whole).each_part([&](int64_t begin, int64_t count) {
    runtime.backend.linear_backward_input(whole.rows(begin, count), linear.weight->value, dx.rows(begin, count));
  });
}

}  // namespace llama_tp
