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
  Frame frame(runtime_.step);
  linear_forward(runtime_.backend, tp_.enter(frame, x), weights_.up, saved.up);  // column-parallel
}

void Mlp::contract(const MlpSaved& saved, const Tensor& y) const {
  Frame frame(runtime_.step);
  const Shape inner{saved.up.shape[0], layout_.ffn};
  const Tensor activated = frame.take(Category::transient, inner, runtime_.dtype);  // [T, F]
  const Tensor partial = tp_.take_partial(frame, y);                                // [T, H]
  runtime_.backend.activation_forward(saved.up, config_.activation, activated);
  linear_forward(runtime_.backend, activated, weights_.down, partial, tp_.adds_bias());  // row-parallel: a partial sum
  tp_.leave(partial, y);
}

void Mlp::backward(const Tensor& dy, const Tensor& x, const MlpSaved& saved, const Tensor& dx) const {
  {
    Frame frame(runtime_.step);
    Backend& backend = runtime_.backend;
    const Shape inner{saved.up.shape[0], layout_.ffn};
    const Tensor activated = frame.take(Category::transient, inner, runtime_.dtype);   // [T, F]
    const Tensor dactivated = frame.take(Category::transient, inner, runtime_.dtype);  // [T, F]
    {
      Frame gathered(runtime_.step);
      InFlight left = tp_.begin_leave_backward(gathered, dy);  // [T, H], while the activation is computed again
      backend.activation_forward(saved.up, config_.activation, activated);
      left.pending.wait();
      linear_backward(backend, left.whole, activated, weights_.down, dactivated);
    }
    backend.activation_backward(dactivated, saved.up, config_.activation, saved.up);
  }
  column_parallel_backward(runtime_, tp_, saved.up, x, weights_.up, dx);  // saved.up is its own gradient by now
}

}  // namespace llama_tp
