#include "model/transformer.h"

#include <algorithm>
#include <cmath>

#include "base/convert_floats.h"
#include "model/multiplier.h"
#include "model/rope.h"

namespace llama_tp {

namespace {

constexpr int64_t any_length = 1;  // of a sequence, where frequencies do not follow it

}  // namespace

Transformer::Transformer(const ModelConfig& config, Parameters& parameters, Runtime& runtime,
                         const TransformerOptions& options)
    : config_(config),
      parameters_(parameters),
      runtime_(runtime),
      recompute_(options.recompute),
      fsdp_(parameters, runtime, options.fsdp, config.layers),
      embedding_tp_(runtime.groups.tensor, runtime.backend,
                    {.split = parameters.embedding_slice().split,
                     .sequence_parallel = parameters.embedding_slice().sequence_parallel,
                     .token_bytes = config.hidden * size_of(runtime.dtype)}),
      head_(parameters.head(), parameters.head_slice(), config.logits_multiplier, runtime) {
  for (int64_t layer = 0; layer < config.layers; layer++)
    blocks_.emplace_back(config_, parameters_.layout(layer), parameters_.block(layer), runtime_);
  streams_.resize(blocks_.size() + 1);
  saved_.resize(blocks_.size());
  frequencies_.resize(static_cast<size_t>(config_.rotary_dim / 2));
  frequencies_tensor_ = runtime_.state.push(Category::data, {config_.rotary_dim / 2}, DType::f32);
}

float Transformer::embedding_multiplier() const {
  const float factor = config_.embedding_multiplier;
  const bool rounded = config_.embedding_multiplier_rounded && runtime_.dtype == DType::bf16;
  return rounded ? to_float(to_bf16(factor)) : factor;
}

const Norm& Transformer::norm_after(size_t layer) const {
  return layer + 1 < blocks_.size() ? blocks_[layer + 1].first_norm() : parameters_.final_norm();
}

// ---- training

void Transformer::train(const Batch& batch, float scale, const Tensor& loss, const OnGradientReady& on_gradient_ready) {
  runtime_.ledger.enter(Phase::forward);
  PushScope kept(runtime_.step);
  Frame frame(runtime_.step);
  const Tensor x = frame.take(Category::transient, stream_shape(batch), runtime_.dtype);  // [S, H]
  const Tensor rope = push_rope(batch);
  forward(batch, rope, x);
  runtime_.ledger.enter(Phase::loss);
  {
    const WholeUnit head(fsdp_, head_unit(), Use::both);
    head_.add_loss_and_gradient(x, batch.targets, scale, loss);  // x is its own gradient from here on
    head.reduce();
  }
  if (!config_.tied) on_gradient_ready(head_unit());  // a tied weight's gradient still lacks the embedding's
  runtime_.ledger.enter(Phase::backward);
  backward(batch, rope, x, on_gradient_ready);
}

void Transformer::forward(const Batch& batch, const Tensor& rope, const Tensor& normed) {
  streams_[0] = push_stream(normed);
  embed(batch, streams_[0]);
  Frame units(runtime_.step);
  BlockLoop gathered_blocks(fsdp_, units, Pass::training_forward);
  for (size_t layer = 0; layer < blocks_.size(); layer++) {
    const Block& block = blocks_[layer];
    gathered_blocks.gather(static_cast<int64_t>(layer));
    // With recompute streams alone are kept: the next one is pushed first, so that what the block saves lies behind it
    // and can be popped. Else last, so that it is not there yet while forward_to_up has its transients.
    if (recompute_) streams_[layer + 1] = push_stream(normed);
    const size_t before = runtime_.step.mark();
    saved_[layer] = block.push_saved(batch.tokens(), streams_[layer]);
    block.forward_to_up(streams_[layer], batch, rope, saved_[layer]);
    if (!recompute_) streams_[layer + 1] = push_stream(normed);
    block.forward_from_up(saved_[layer], norm_after(layer), streams_[layer + 1]);
    if (recompute_) runtime_.step.pop_to(before);
    gathered_blocks.release(static_cast<int64_t>(layer));
  }
}

void Transformer::backward(const Batch& batch, const Tensor& rope, const Tensor& dnormed,
                           const OnGradientReady& on_gradient_ready) {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const Tensor dx = frame.take(Category::transient, dnormed.shape, runtime_.dtype);  // [S, H] of the residual stream
  backend.zero(dx);
  const Norm& last = parameters_.final_norm();
  backend.norm_backward(dnormed, streams_.back().residual, last.weight->value, config_.norm, streams_.back().statistics,
                        dx, last.weight->gradient, last.bias_gradient());
  backward_blocks(batch, rope, dx, on_gradient_ready);
  multiply(backend, dx, embedding_multiplier());
  const int64_t skipped = config_.pad_id.value_or(-1);  // torch's padding_idx
  const Tensor all_tokens =
      embedding_tp_.begin_leave_backward(dx, embedding_tp_.take_whole(frame, dx)).wait();  // [T, H]
  const WholeUnit embedding(fsdp_, embedding_unit(), Use::gradients);
  backend.embedding_backward(batch.ids, all_tokens, parameters_.embedding_slice().begin, skipped,
                             parameters_.embedding().gradient);
  embedding.reduce();
  on_gradient_ready(embedding_unit());
}

void Transformer::backward_blocks(const Batch& batch, const Tensor& rope, const Tensor& dx,
                                  const OnGradientReady& on_gradient_ready) {
  Frame units(runtime_.step);
  BlockLoop gathered_blocks(fsdp_, units, Pass::backward);
  for (size_t layer = blocks_.size(); layer-- > 0;) {
    const Block& block = blocks_[layer];
    const Stream& in = streams_[layer];
    gathered_blocks.gather(static_cast<int64_t>(layer));
    if (recompute_) {
      PushScope again(runtime_.step);
      const Norm& norm = block.first_norm();
      const BlockSaved saved = block.push_saved(batch.tokens(), in);
      // in.normed is train's x, as in all streams; the final norm's backward was the last to read it, as dnormed.
      runtime_.backend.norm_apply(in.residual, norm.weight->value, norm.bias_value(), config_.norm, in.statistics,
                                  in.normed);
      block.forward_to_up(in, batch, rope, saved);
      block.backward(dx, in, batch, rope, saved);
    } else {
      block.backward(dx, in, batch, rope, saved_[layer]);
    }
    gathered_blocks.reduce(static_cast<int64_t>(layer), on_gradient_ready);
    gathered_blocks.release(static_cast<int64_t>(layer));
  }
  gathered_blocks.end_reduce(on_gradient_ready);
}

Stream Transformer::push_stream(const Tensor& normed) const {
  const Category category = stream_category(parameters_.embedding_slice().sequence_parallel);
  return {runtime_.step.push(category, normed.shape, runtime_.dtype),
          runtime_.step.push(category, statistics_shape(config_.norm, normed.shape[0]), DType::f32), normed};
}

void Transformer::embed(const Batch& batch, const Stream& out) {
  const WholeUnit embedding(fsdp_, embedding_unit(), Use::values);
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const Tensor partial = embedding_tp_.take_whole(frame, out.residual);  // [T, H]
  embedding_tp_.leave(partial, out.residual, [&](int64_t begin, int64_t count) {
    backend.embedding_forward(batch.ids.rows(begin, count), parameters_.embedding().value,
                              parameters_.embedding_slice().begin, partial.rows(begin, count));
  });
  multiply(backend, out.residual, embedding_multiplier());
  const Norm& norm = blocks_.front().first_norm();
  backend.norm_forward(out.residual, norm.weight->value, norm.bias_value(), config_.norm, out.normed, out.statistics);
}

Tensor Transformer::push_rope(const Batch& batch) {
  const Tensor table = runtime_.step.push(Category::saved_whole, {batch.tokens(), config_.rotary_dim}, DType::f32);
  make_rope_table(batch, table);
  return table;
}

void Transformer::make_rope_table(const Batch& batch, const Tensor& table) {
  if (!rope_follows_length(config_.rope)) return make_rope_table(batch.positions, any_length, table);
  int64_t first = 0;
  for (const auto& [tokens, length] : batch.rotary) {
    make_rope_table(batch.positions.rows(first, tokens), length, table.rows(first, tokens));
    first += tokens;
  }
}

void Transformer::make_rope_table(const Tensor& positions, int64_t length, const Tensor& table) {
  if (frequencies_length_ != length) {
    rope_frequencies(config_, length, frequencies_);
    frequencies_length_ = length;
    runtime_.backend.upload(frequencies_.data(), frequencies_tensor_);
  }
  runtime_.backend.rope_table(positions, frequencies_tensor_, static_cast<float>(config_.rope.magnitude), table);
}

// ---- generation and evaluation

KeyValueCache Transformer::push_cache(int64_t rows) {
  KeyValueCache cache;
  cache.rows = rows;
  for (int64_t layer = 0; layer < config_.layers; layer++) {
    const Shape shape{parameters_.layout(layer).kv_heads, rows, config_.head_dim};
    cache.keys.push_back(runtime_.cache.push(Category::kv_cache, shape, runtime_.dtype));
    cache.values.push_back(runtime_.cache.push(Category::kv_cache, shape, runtime_.dtype));
  }
  return cache;
}

void Transformer::infer(const Batch& batch, KeyValueCache* cache, const Tensor& x) {
  Frame frame(runtime_.step);
  const int64_t tokens = batch.tokens();
  const Tensor rope = frame.take(Category::transient, {tokens, config_.rotary_dim}, DType::f32);
  make_rope_table(batch, rope);
  const Stream stream{frame.take(Category::transient, x.shape, runtime_.dtype),
                      frame.take(Category::transient, statistics_shape(config_.norm, x.shape[0]), DType::f32), x};
  embed(batch, stream);
  BlockLoop gathered_blocks(fsdp_, frame, Pass::forward);
  for (size_t layer = 0; layer < blocks_.size(); layer++) {
    gathered_blocks.gather(static_cast<int64_t>(layer));
    Frame inner(runtime_.step);
    const Shape own{parameters_.layout(static_cast<int64_t>(layer)).kv_heads, tokens, config_.head_dim};
    const Tensor keys = cache != nullptr ? cache->keys[layer] : inner.take(Category::transient, own, runtime_.dtype);
    const Tensor values =
        cache != nullptr ? cache->values[layer] : inner.take(Category::transient, own, runtime_.dtype);
    const BlockSaved saved = blocks_[layer].take_saved(inner, tokens, keys, values, stream);
    blocks_[layer].forward_to_up(stream, batch, rope, saved);
    blocks_[layer].forward_from_up(saved, norm_after(layer), stream);
    gathered_blocks.release(static_cast<int64_t>(layer));
  }
}

void Transformer::add_loss(const Batch& batch, const Tensor& loss) {
  Frame frame(runtime_.step);
  const Tensor x = frame.take(Category::transient, stream_shape(batch), runtime_.dtype);  // [S, H]
  infer(batch, nullptr, x);
  const WholeUnit head = whole_head();
  head_.add_loss(x, batch.targets, loss);
}

// ---- finding where values stopped being finite

// On every tensor-parallel rank: each may hold tokens of its own.
bool Transformer::is_finite(const Tensor& tensor) const {
  Frame frame(runtime_.step);
  const Tensor bad = frame.take(Category::transient, {1}, DType::f64);
  std::vector<char> host(static_cast<size_t>(tensor.bytes()));
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  runtime_.backend.download(tensor, host.data());
  convert_floats(host.data(), tensor.dtype, values.data(), DType::f32, tensor.elements());
  auto count = static_cast<double>(
      std::count_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); }));
  runtime_.backend.upload(&count, bad);
  runtime_.groups.tensor.all_reduce(bad).wait();
  runtime_.backend.download(bad, &count);
  return count == 0;
}

std::string Transformer::first_not_finite(const Batch& batch) {
  PushScope kept(runtime_.step);
  Frame frame(runtime_.step);
  const Tensor normed = frame.take(Category::transient, stream_shape(batch), runtime_.dtype);
  const Tensor rope = push_rope(batch);
  forward(batch, rope, normed);
  if (!is_finite(streams_[0].residual)) return "the embedding";
  for (size_t layer = 0; layer < blocks_.size(); layer++) {
    if (!recompute_ && !is_finite(saved_[layer].middle)) return "the attention of block " + std::to_string(layer);
    if (!is_finite(streams_[layer + 1].residual))
      return (recompute_ ? "block " : "the mlp of block ") + std::to_string(layer);
  }
  return is_finite(normed) ? "" : "the final norm";
}

}  // namespace llama_tp
