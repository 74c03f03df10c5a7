#include "model/attention.h"

#include "model/linear.h"

namespace llama_tp {

AttentionSaved Attention::push_saved(int64_t tokens) const {
  const int64_t heads = layout_.heads, kv_heads = layout_.kv_heads, head_dim = config_.head_dim;
  const auto push = [&](const Shape& shape, DType dtype) {
    return runtime_.step.push(Category::saved_split, shape, dtype);
  };
  return {push({heads, tokens, head_dim}, runtime_.dtype), push({kv_heads, tokens, head_dim}, runtime_.dtype),
          push({kv_heads, tokens, head_dim}, runtime_.dtype), push({tokens, heads * head_dim}, runtime_.dtype),
          push({heads, tokens}, DType::f32)};
}

AttentionSaved Attention::take_saved(Frame& frame, int64_t tokens, const Tensor& keys, const Tensor& values) const {
  const int64_t heads = layout_.heads, head_dim = config_.head_dim;
  return {frame.take(Category::transient, {heads, tokens, head_dim}, runtime_.dtype),
          keys,
          values,
          frame.take(Category::transient, {tokens, heads * head_dim}, runtime_.dtype),
          {}};
}

void Attention::attend(const Tensor& x, const Batch& batch, const Tensor& rope, const AttentionSaved& saved) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const Tensor whole = tp_.enter(frame, x);                                                       // [T, H]
  const Tensor qkv = frame.take(Category::transient, {whole.shape[0], width()}, runtime_.dtype);  // [T, (A + 2G) D]
  linear_forward(backend, whole, weights_.qkv, qkv);                                              // column-parallel
  backend.rope_forward(qkv, rope, batch.slots, saved.q, saved.k, saved.v);
  backend.attention_forward(saved.q, saved.k, saved.v, batch.sequences, options(), saved.out, saved.lse);
}

void Attention::project(const AttentionSaved& saved, const Tensor& y) const {
  Frame frame(runtime_.step);
  const Tensor partial = tp_.before_leaving(frame, y);                                // [T, H]
  linear_forward(runtime_.backend, saved.out, weights_.o, partial, tp_.adds_bias());  // row-parallel: a partial sum
  tp_.leave(partial, y);
}

void Attention::backward(const Tensor& dy, const Tensor& x, const Batch& batch, const Tensor& rope,
                         const AttentionSaved& saved) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const auto like = [&](const Tensor& tensor) { return frame.take(Category::transient, tensor.shape, tensor.dtype); };
  const Tensor dout = like(saved.out);  // [T, A D]
  {
    Frame gathered(runtime_.step);
    linear_backward(backend, tp_.leave_backward(gathered, dy), saved.out, weights_.o, dout);
  }
  const Tensor dq = like(saved.q), dk = like(saved.k), dv = like(saved.v);
  backend.attention_backward(dout, saved.q, saved.k, saved.v, saved.out, saved.lse, batch.sequences, options(), dq, dk,
                             dv);
  const Tensor dqkv = frame.take(Category::transient, {batch.tokens(), width()}, runtime_.dtype);  // [T, (A + 2G) D]
  backend.rope_backward(dq, dk, dv, rope, dqkv);
  const Tensor whole = tp_.enter(frame, x);                    // [T, H]
  linear_backward(backend, dqkv, whole, weights_.qkv, whole);  // whole is its own gradient from here on
  tp_.enter_backward(whole, x);
}

}  // namespace llama_tp
