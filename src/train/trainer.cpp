#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "model/rehearsal.h"

namespace llama_tp {

Trainer::Trainer(const ModelConfig& config, const TrainerOptions& options, Runtime& runtime)
    : runtime_(runtime),
      options_(options),
      parameters_(config, runtime.groups.tensor.rank(), runtime.groups.tensor.size(), options.batch.sequence_ranks > 1),
      model_(config, parameters_.allocate(runtime, Holds::training_state), runtime, {options.recompute, options.fsdp}),
      sums_(parameters_, runtime) {
  batch_ = push_batch(runtime.state, options.batch.tokens(), options.batch.sequences(), config.window());
  loss_ = runtime.state.push(Category::data, {1}, DType::f64);
  squared_norm_ = runtime.state.push(Category::data, {1}, DType::f64);
  for (const Unit& unit : parameters_.units())
    for (const Tensor* tensor : {&unit.gradient, &unit.m, &unit.v}) runtime.backend.zero(*tensor);
}

void Trainer::begin(int64_t micro_batches) {
  micro_batches_left_ = micro_batches;
  runtime_.ledger.enter(Phase::forward);
  runtime_.backend.zero(loss_);
  model_.open_step();
}

void Trainer::accumulate(const HostBatch& batch, int64_t target_count) {
  require(micro_batches_left_-- > 0, "a step has more micro-batches than it began with");
  upload(runtime_.backend, batch, batch_);
  model_.train(batch_, 1.0f / static_cast<float>(std::max<int64_t>(1, target_count)), loss_, [this](const Unit& unit) {
    if (micro_batches_left_ == 0) sums_.begin(unit);
  });
}

StepResult Trainer::finish(int64_t target_count) {
  require(micro_batches_left_ == 0, "a step has fewer micro-batches than it began with");
  runtime_.ledger.enter(Phase::gradient_sync);
  model_.reduce_norms();
  sums_.begin(parameters_.norm_unit());
  // FSDP's ranks and replicas have the loss of their own samples each. Tensor ranks have all computed the same one, from
  // statistics that they exchanged (Head).
  runtime_.groups.fsdp.all_reduce(loss_).wait();
  runtime_.groups.replicas.all_reduce(loss_).wait();
  sums_.end();
  runtime_.ledger.enter(Phase::optimizer);
  // Σ g², every element once: tensor ranks hold different slices, and of what several hold one counts it; FSDP's
  // ranks hold different pieces. Replicas hold the same by now.
  runtime_.backend.zero(squared_norm_);
  for (const Parameter& row : parameters_.rows())
    if (const Piece piece = parameters_.piece(row); row.counts_in_norm && piece.count > 0)
      runtime_.backend.add_sum_of_squares(piece.of(parameters_.unit_of(row).gradient), squared_norm_);
  runtime_.groups.tensor.all_reduce(squared_norm_).wait();
  runtime_.groups.fsdp.all_reduce(squared_norm_).wait();
  return {scalar(loss_) / static_cast<double>(std::max<int64_t>(1, target_count)), std::sqrt(scalar(squared_norm_))};
}

void Trainer::update(const AdamWOptions& options) {
  for (const Weight& weight : parameters_.weights()) {
    const Unit& unit = parameters_.unit_of(weight);
    const Piece piece = unit.piece(weight);
    if (piece.count == 0) continue;
    AdamWOptions own = options;
    if (!weight.decays) own.weight_decay = 0;
    runtime_.backend.adamw(own, unit.optimizer_tensors(piece), squared_norm_);
  }
}

double Trainer::evaluate(const HostBatch& batch) {
  runtime_.ledger.enter(Phase::evaluate);
  upload(runtime_.backend, batch, batch_);
  runtime_.backend.zero(loss_);
  model_.open_step();
  model_.add_loss(batch_, loss_);
  return scalar(loss_);
}

double Trainer::scalar(const Tensor& value) {
  double host = 0;
  runtime_.backend.download(value, &host);
  return host;
}

std::string Trainer::blame_forward(const HostBatch& batch) {
  upload(runtime_.backend, batch, batch_);
  return model_.first_not_finite(batch_);
}

std::string Trainer::blame_gradient() const {
  for (const Parameter& row : parameters_.rows()) {
    const Piece piece = parameters_.piece(row);
    std::vector<float> host(static_cast<size_t>(piece.count));
    if (piece.count > 0) runtime_.backend.download(piece.of(parameters_.unit_of(row).gradient), host.data());
    if (!std::all_of(host.begin(), host.end(), [](float value) { return std::isfinite(value); }))
      return "the gradient of " + row.name;
  }
  return "";
}

void rehearse_training(const ModelConfig& config, const TrainerOptions& options, Runtime& runtime) {
  Trainer trainer(config, options, runtime);
  HostBatch batch;
  outline_batch(options.batch, batch);
  trainer.begin(options.batch.accumulation);
  for (int64_t micro = 0; micro < options.batch.accumulation; micro++) trainer.accumulate(batch, 1);
  trainer.finish(1);
  trainer.update({});
  if (options.evaluates) trainer.evaluate(batch);
  runtime.ledger.enter(Phase::save);
}

MemoryPlan plan_training(const ModelConfig& config, const TrainerOptions& options, Backend& backend,
                         const Runtime& runtime) {
  TrainerOptions one = options;
  one.batch.accumulation = 1;  // a second forward and backward takes no more memory than the first
  return rehearse(backend, runtime, [&](Runtime& rehearsal) { rehearse_training(config, one, rehearsal); });
}

}  // namespace llama_tp
