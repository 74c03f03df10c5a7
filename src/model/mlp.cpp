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
  linear_forward(runtime_.backend, tp_.enter(x), weights_.up, saved.up);  // column-parallel
}

void Mlp::contract(const MlpSaved& saved, const Tensor& y) const {
  Frame frame(runtime_.step);
  const Tensor activated = frame.take(Category::transient, {y.shape[0], layout_.ffn}, runtime_.dtype);  // [T, F]
  runtime_.backend.activation_forward(saved.up, config_.activation, activated);
  linear_forward(runtime_.backend, activated, weights_.down, y, tp_.adds_bias());  // row-parallel: a partial sum
  tp_.leave(y);
}

void Mlp::backward(const Tensor& dy, const Tensor& x, const MlpSaved& saved, const Tensor& dx) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const Shape inner{dy.shape[0], layout_.ffn};
  const Tensor activated = frame.take(Category::transient, inner, runtime_.dtype);   // [T, F]
  const Tensor dactivated = frame.take(Category::transient, inner, runtime_.dtype);  // [T, F]
  backend.activation_forward(saved.up, config_.activation, activated);
  linear_backward(backend, tp_.leave_backward(dy), activated, weights_.down, dactivated);
  backend.activation_backward(dactivated, saved.up, config_.activation,
                              saved.up);  // saved.up is its gradient from here on
  linear_backward(backend, saved.up, tp_.enter(x), weights_.up, dx);
  tp_.enter_backward(dx);
}

}  // namespace llama_tp
