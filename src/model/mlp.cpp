#include "model/mlp.h"

#include "model/linear.h"

namespace llama_tp {

MlpSaved Mlp::push_saved(int64_t tokens) const {
  return {runtime_.step.push(Category::saved_split, up_shape(tokens), runtime_.dtype)};
}

MlpSaved Mlp::take_saved(Frame& frame, int64_t tokens) const {
  return {frame.take(Category::transient, up_shape(tokens), runtime_.dtype)};
}

void Mlp::expand(const Tensor& x, const MlpSaved& saved) const {
  column_parallel_forward(runtime_, tp_, x, weights_.up, saved.up);
}

void Mlp::contract(const MlpSaved& saved, const Tensor& y) const {
  Frame frame(runtime_.step);
  const Shape inner{saved.up.shape[0], layout_.ffn};
  const Tensor activated = frame.take(Category::transient, inner, runtime_.dtype);  // [T, F]
  runtime_.backend.activation_forward(saved.up, config_.activation, activated);
  row_parallel_forward(runtime_, tp_, activated, weights_.down, y);
}

void Mlp::backward(const Tensor& dy, const Tensor& x, const MlpSaved& saved, const Tensor& dx) const {
  {
    Frame frame(runtime_.step);
    Backend& backend = runtime_.backend;
    const Shape shape{saved.up.shape[0], layout_.ffn};
    const Tensor inner = frame.take(Category::transient, shape, runtime_.dtype);  // [T, F]
    const Tensor left = tp_.take_whole(frame, dy);                                // [T, H]
    row_parallel_backward_input(runtime_, tp_, dy, left, weights_.down, inner);
    backend.activation_backward(inner, saved.up, config_.activation);  // inner is activation(up) by now
    linear_backward_weight(backend, left, inner, weights_.down);
  }
  Frame frame(runtime_.step);
  const Tensor whole = tp_.take_whole(frame, x);  // [T, H]
  column_parallel_backward(runtime_, tp_, saved.up, tp_.begin_enter(x, whole), weights_.up, dx);
}

}  // namespace llama_tp
