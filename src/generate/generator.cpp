#include "generate/generator.h"

#include <algorithm>

#include "model/rehearsal.h"

namespace llama_tp {

namespace {

Parameters& allocated(Parameters& parameters, Runtime& runtime) {
  parameters.allocate(runtime.state, runtime.dtype, false, {});
  return parameters;
}

}  // namespace

Generator::Generator(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, Runtime& runtime)
    : runtime_(runtime),
      parameters_(config, plan, runtime.tp.rank(), runtime.tp.size()),
      model_(config, allocated(parameters_, runtime), runtime),
      cache_(model_.push_cache(context)),
      logits_(static_cast<size_t>(config.vocabulary)) {}

void Generator::feed(std::span<const int32_t> tokens) {
  const auto count = static_cast<int64_t>(tokens.size());
  require(length_ + count <= cache_.rows, "the context of ", cache_.rows, " tokens is full; give a larger one with -c");
  for (int64_t begin = 0; begin < count; begin += prompt_piece)
    feed_piece(tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(std::min(prompt_piece, count - begin))));
}

void Generator::feed_piece(std::span<const int32_t> tokens) {
  Saved kept(runtime_.step);
  Frame frame(runtime_.step);
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t hidden = model_.config().hidden;
  host_.clear();
  host_.append(tokens, {}, length_, 0);
  Batch batch = push_batch(runtime_.step, count, 1);
  upload(runtime_.backend, host_, batch);
  const Tensor x = frame.take(Category::transient, {count, hidden}, runtime_.dtype);  // [T, H]
  model_.infer(batch, &cache_, x);
  const Tensor logits = model_.head().take_logits(frame, 1);
  model_.head().gathered_logits(x.rows(count - 1, 1), logits);
  gathered_.resize(static_cast<size_t>(logits.elements()));
  runtime_.backend.download(logits, gathered_.data());
  model_.head().assemble_row(gathered_.data(), 1, 0, logits_);
  length_ += count;
}

MemoryPlan plan_generation(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, int64_t prompt,
                           Backend& backend, const Runtime& runtime) {
  return rehearse(backend, runtime, [&](Runtime& rehearsal) {
    Generator generator(config, plan, context, rehearsal);
    generator.feed(std::vector<int32_t>(static_cast<size_t>(prompt), 0));
    if (generator.length() < context) generator.feed(std::vector<int32_t>{0});
  });
}

}  // namespace llama_tp
