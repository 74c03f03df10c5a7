#include "model/attention.h"

#include "model/linear.h"

namespace llama_tp {

AttentionSaved Attention::push_saved(int64_t tokens) const {
  const int64_t heads = layout_.heads, kv_heads = layout_.kv_heads, head_dim = config_.head_dim;
  const auto push = [&](const Shape& shape, DType dtype) {
    return runtime_.step.push(Category::saved_split, shape, dtype);
  };
  AttentionSaved saved;
  if (config_.qk_norm) {
    saved.qkv = push({tokens, width()}, runtime_.dtype);
  } else {
    saved.q = push({heads, tokens, head_dim}, runtime_.dtype);
    saved.k = push({kv_heads, tokens, head_dim}, runtime_.dtype);
    saved.v = push({kv_heads, tokens, head_dim}, runtime_.dtype);
  }
  saved.out = push({tokens, heads * head_dim}, runtime_.dtype);
  saved.lse = push({heads, tokens}, DType::f32);
  return saved;
}

AttentionSaved Attention::take_saved(Frame& frame, int64_t tokens, const Tensor& keys, const Tensor& values) const {
  const int64_t heads = layout_.heads, head_dim = config_.head_dim;
  return {.q = frame.take(Category::transient, {heads, tokens, head_dim}, runtime_.dtype),
          .k = keys,
          .v = values,
          .out = frame.take(Category::transient, {tokens, heads * head_dim}, runtime_.dtype),
          .lse = {},
          .qkv = {}};
}

AttentionSaved Attention::with_heads(Frame& frame, const AttentionSaved& saved) const {
  if (!saved.qkv.exists()) return saved;
  const int64_t tokens = saved.qkv.shape[0];
  const auto take = [&](int64_t heads) {
    return frame.take(Category::transient, {heads, tokens, config_.head_dim}, runtime_.dtype);
  };
  return {.q = take(layout_.heads),
          .k = take(layout_.kv_heads),
          .v = take(layout_.kv_heads),
          .out = saved.out,
          .lse = saved.lse,
          .qkv = saved.qkv};
}

void Attention::apply_rope(const Tensor& qkv, const Batch& batch, const Tensor& rope,
                           const AttentionSaved& saved) const {
  Frame frame(runtime_.step);
  Tensor heads = qkv;
  if (config_.qk_norm) {
    heads = frame.take(Category::transient, qkv.shape, qkv.dtype);
    runtime_.backend.head_norm_forward(qkv, head_norms(), heads);
  }
  runtime_.backend.rope_forward(heads, rope_of_layer(rope), batch.slots, saved.q, saved.k, saved.v);
}

void Attention::attend(const Tensor& x, const Batch& batch, const Tensor& rope, const AttentionSaved& saved) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const AttentionSaved all = with_heads(frame, saved);
  const Tensor qkv =  // [T, (A + 2G) D]
      saved.qkv.exists() ? saved.qkv : frame.take(Category::transient, {batch.tokens(), width()}, runtime_.dtype);
  column_parallel_forward(runtime_, tp_, x, weights_.qkv, qkv);
  apply_rope(qkv, batch, rope, all);
  backend.attention_forward(all.q, all.k, all.v, batch.sequences, options(), saved.out, saved.lse);
}

void Attention::project(const AttentionSaved& saved, const Tensor& y) const {
  row_parallel_forward(runtime_, tp_, saved.out, weights_.o, y);
}

void Attention::backward(const Tensor& dy, const Tensor& x, const Batch& batch, const Tensor& rope,
                         const AttentionSaved& saved, const Tensor& dx) const {
  Frame frame(runtime_.step);
  const Tensor dqkv = frame.take(Category::transient, {batch.tokens(), width()}, runtime_.dtype);  // [T, (A + 2G) D]
  const Tensor whole_dy = tp_.take_whole(frame, dy);                                               // [T, H]
  const Tensor whole_x = tp_.whole_in(whole_dy, x);  // [T, H]  if gathered, where whole_dy was, once that is done with
  InFlight entering(whole_x);                        // nothing is on its way yet
  {
    Frame inner(runtime_.step);
    const Tensor dout = inner.take(Category::transient, saved.out.shape, saved.out.dtype);  // [T, A D]
    row_parallel_backward_input(runtime_, tp_, dy, whole_dy, weights_.o, dout);
    linear_backward_weight(runtime_.backend, whole_dy, saved.out, weights_.o);  // the last to read whole_dy
    entering = tp_.begin_enter(x, whole_x);  // beside attention: the products of q, k and v are too short
    attend_backward(dout, batch, rope, saved, dqkv);
  }
  if (config_.qk_norm)
    runtime_.backend.head_norm_backward(saved.qkv, head_norms(), dqkv, weights_.q_norm.weight->gradient,
                                        weights_.k_norm.weight->gradient);
  column_parallel_backward(runtime_, tp_, dqkv, entering, weights_.qkv, dx);
}

void Attention::attend_backward(const Tensor& dout, const Batch& batch, const Tensor& rope, const AttentionSaved& saved,
                                const Tensor& dqkv) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const auto like = [&](const Tensor& tensor) { return frame.take(Category::transient, tensor.shape, tensor.dtype); };
  const AttentionSaved all = with_heads(frame, saved);
  if (saved.qkv.exists()) apply_rope(saved.qkv, batch, rope, all);
  const Tensor dq = like(all.q), dk = like(all.k), dv = like(all.v);
  backend.attention_backward(dout, all.q, all.k, all.v, saved.out, saved.lse, batch.sequences, options(), dq, dk, dv);
  backend.rope_backward(dq, dk, dv, rope_of_layer(rope), dqkv);
}

}  // namespace llama_tp
