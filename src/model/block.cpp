#include "model/block.h"

#include "model/multiplier.h"

namespace llama_tp {

BlockSaved Block::push_saved(int64_t tokens, const Stream& in) const {
  BlockSaved saved;
  saved.attention = attention_.push_saved(tokens);
  const Category category = stream_category(sequence_parallel_);
  saved.middle = runtime_.step.push(category, in.residual.shape, runtime_.dtype);
  saved.middle_statistics = runtime_.step.push(category, in.statistics.shape, DType::f32);
  saved.mlp = mlp_.push_saved(tokens);
  return saved;
}

BlockSaved Block::take_saved(Frame& frame, int64_t tokens, const Tensor& keys, const Tensor& values,
                             const Stream& in) const {
  return {.attention = attention_.take_saved(frame, tokens, keys, values),
          .middle = in.residual,
          .middle_statistics = in.statistics,
          .mlp = mlp_.take_saved(frame, tokens)};
}

void Block::forward_to_up(const Stream& in, const Batch& batch, const Tensor& rope, const BlockSaved& saved) const {
  Frame frame(runtime_.step);
  const Tensor part = frame.take(Category::transient, in.residual.shape, runtime_.dtype);    // [S, H]
  const Tensor normed = frame.take(Category::transient, in.residual.shape, runtime_.dtype);  // [S, H]
  attention_.attend(in.normed, batch, rope, saved.attention);  // enters: sequence-parallel, all-gather
  attention_.project(saved.attention, part);                   // leaves: all-reduce or reduce-scatter
  multiply(runtime_.backend, part, config_.residual_multiplier);
  const Norm& norm = weights_.mlp_norm;
  runtime_.backend.add_norm_forward(part, in.residual, norm.weight->value, norm.bias_value(), config_.norm,
                                    saved.middle, normed, saved.middle_statistics);
  mlp_.expand(normed, saved.mlp);  // enters
}

void Block::forward_from_up(const BlockSaved& saved, const Norm& next_norm, const Stream& out) const {
  Frame frame(runtime_.step);
  const Tensor part = frame.take(Category::transient, saved.middle.shape, runtime_.dtype);  // [S, H]
  mlp_.contract(saved.mlp, part);                                                           // leaves
  multiply(runtime_.backend, part, config_.residual_multiplier);
  runtime_.backend.add_norm_forward(part, saved.middle, next_norm.weight->value, next_norm.bias_value(), config_.norm,
                                    out.residual, out.normed, out.statistics);
}

// dx is the gradient of the sum, residual + part, and so of both. As the residual's it stays where it is; what comes
// through the part, norm_backward adds to it: dx += ….
void Block::backward(const Tensor& dx, const Stream& in, const Batch& batch, const Tensor& rope,
                     const BlockSaved& saved) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const auto take = [&] { return frame.take(Category::transient, dx.shape, runtime_.dtype); };
  const Tensor normed = take();  // [S, H]
  // Its gradient has a place of its own where ranks sum it whole, while normed is still read (linear.h).
  const Tensor dnormed = runtime_.groups.tensor.size() > 1 && !sequence_parallel_ ? take() : normed;

  const Norm& second = weights_.mlp_norm;
  backend.norm_apply(saved.middle, second.weight->value, second.bias_value(), config_.norm, saved.middle_statistics,
                     normed);
  {
    Frame inner(runtime_.step);
    mlp_.backward(multiplied(inner, backend, dx, config_.residual_multiplier), normed, saved.mlp, dnormed);
  }
  backend.norm_backward(dnormed, saved.middle, second.weight->value, config_.norm, saved.middle_statistics, dx,
                        second.weight->gradient, second.bias_gradient());

  const Norm& first = weights_.attention_norm;
  backend.norm_apply(in.residual, first.weight->value, first.bias_value(), config_.norm, in.statistics, normed);
  {
    Frame inner(runtime_.step);
    attention_.backward(multiplied(inner, backend, dx, config_.residual_multiplier), normed, batch, rope,
                        saved.attention, dnormed);
  }
  backend.norm_backward(dnormed, in.residual, first.weight->value, config_.norm, in.statistics, dx,
                        first.weight->gradient, first.bias_gradient());
}

}  // namespace llama_tp
