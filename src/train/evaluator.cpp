#include "train/evaluator.h"

#include <algorithm>

#include "model/rehearsal.h"

namespace llama_tp {

Evaluator::Evaluator(const ModelConfig& config, const BatchShape& shape, Runtime& runtime)
    : runtime_(runtime),
      parameters_(config, runtime.groups.tensor.rank(), runtime.groups.tensor.size()),
      batch_(push_batch(runtime.state, shape.tokens(), shape.sequences(), config.window())),
      loss_(runtime.state.push(Category::data, {1}, DType::f64)),
      model_(config, parameters_.allocate(runtime, Holds::weights), runtime) {}

double Evaluator::loss(const HostBatch& batch) {
  upload(runtime_.backend, batch, batch_);
  runtime_.backend.zero(loss_);
  model_.open_step();
  model_.add_loss(batch_, loss_);
  double sum = 0;
  runtime_.backend.download(loss_, &sum);
  return sum;
}

void Evaluator::logits(const HostBatch& batch, int64_t rows,
                       const std::function<void(int64_t, std::span<const float>)>& row) {
  Frame frame(runtime_.step);
  upload(runtime_.backend, batch, batch_);
  const Tensor x =
      frame.take(Category::transient, {batch_.tokens(), model_.config().hidden}, runtime_.dtype);  // [T, H]
  model_.open_step();
  model_.infer(batch_, nullptr, x);
  const WholeUnit head = model_.whole_head();
  std::vector<float> gathered, whole(static_cast<size_t>(model_.config().vocabulary));
  for (int64_t begin = 0; begin < rows; begin += logits_piece) {
    Frame inner(runtime_.step);
    const int64_t count = std::min(logits_piece, rows - begin);
    const Tensor piece = model_.head().take_logits(inner, count);
    model_.head().gathered_logits(x.rows(begin, count), piece);
    gathered.resize(static_cast<size_t>(piece.elements()));
    runtime_.backend.download(piece, gathered.data());
    for (int64_t i = 0; i < count; i++) {
      model_.head().assemble_row(gathered.data(), count, i, whole);
      row(begin + i, whole);
    }
  }
}

MemoryPlan plan_evaluation(const ModelConfig& config, const BatchShape& shape, bool with_logits, Backend& backend,
                           const Runtime& runtime) {
  return rehearse(backend, runtime, [&](Runtime& rehearsal) {
    Evaluator evaluator(config, shape, rehearsal);
    HostBatch batch;
    outline_batch(shape, batch);
    evaluator.loss(batch);
    if (with_logits)
      evaluator.logits(batch, std::min(Evaluator::logits_piece, shape.tokens()),
                       [](int64_t, std::span<const float>) {});
  });
}

}  // namespace llama_tp
