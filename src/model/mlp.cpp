#include "model/mlp.h"

#include "model/linear.h"

namespace llama_tp {

MlpSaved Mlp::push_saved(int64_t tokens) const {
  return {runtime_.step.push(Category::saved_split, gate_up_shape(tokens), runtime_.dtype)};
}

MlpSaved Mlp::take_saved(Frame& frame, int64_t tokens) const {
  return {frame.take(Category::transient, gate_up_shape(tokens), runtime_.dtype)};
}

void Mlp::expand(const Tensor& x, const MlpSaved& saved) const {
  column_parallel_forward(runtime_, tp_, x, weights_.gate_up, saved.gate_up);
}

void Mlp::contract(const MlpSaved& saved, const Tensor& y) const {
  Frame frame(runtime_.step);
  const Shape shape{saved.gate_up.shape[0], layout_.ffn};
  const Tensor activated = frame.take(Category::transient, shape, runtime_.dtype);  // [T, F]
  runtime_.backend.activation_forward(saved.gate_up, config_.activation, activated);
  row_parallel_forward(runtime_, tp_, activated, weights_.down, y);
}

void Mlp::backward(const Tensor& dy, const Tensor& x, const MlpSaved& saved, const Tensor& dx) const {
  const Tensor dgate_up = saved.gate_up;  // the same memory: activation_backward writes the gradient over it
  {
    Frame frame(runtime_.step);
    const Shape shape{saved.gate_up.shape[0], layout_.ffn};
    const Tensor dactivated = frame.take(Category::transient, shape, runtime_.dtype);  // [T, F]
    const Tensor activated = dactivated;                                               // the same memory, likewise
    const Tensor whole_dy = tp_.take_whole(frame, dy);                                 // [T, H]
    row_parallel_backward_input(runtime_, tp_, dy, whole_dy, weights_.down, dactivated);
    runtime_.backend.activation_backward(dactivated, saved.gate_up, config_.activation);  // now activated and dgate_up
    linear_backward_weight(runtime_.backend, whole_dy, activated, weights_.down);
  }
  Frame frame(runtime_.step);
  const Tensor whole_x = tp_.take_whole(frame, x);  // [T, H]
  column_parallel_backward(runtime_, tp_, dgate_up, tp_.begin_enter(x, whole_x), weights_.gate_up, dx);
}

}  // namespace llama_tp
