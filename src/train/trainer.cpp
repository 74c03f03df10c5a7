#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "model/rehearsal.h"
#include "parallel/local_communicator.h"

namespace llama_tp {

namespace {

Parameters& allocated(Parameters& parameters, Runtime& runtime) {
  parameters.allocate(runtime.state, runtime.dtype, true);
  return parameters;
}

}  // namespace

Trainer::Trainer(const ModelConfig& config, const TensorParallelPlan& plan, const TrainerOptions& options,
                 Runtime& runtime, Communicator& data)
    : runtime_(runtime),
      data_(data),
      options_(options),
      parameters_(config, plan, runtime.tp.rank(), runtime.tp.size(), options.batch.sequence_ranks > 1),
      model_(config, allocated(parameters_, runtime), runtime, options.recompute) {
  batch_ = push_batch(runtime.state, options.batch.tokens(), options.batch.sequences());
  loss_ = runtime.state.push(Category::data, {1}, DType::f64);
  squared_norm_ = runtime.state.push(Category::data, {1}, DType::f64);
  for (const Weight& weight : parameters_.weights())
    for (const Tensor* tensor : {&weight.gradient, &weight.m, &weight.v}) runtime.backend.zero(*tensor);
}

void Trainer::begin() { runtime_.backend.zero(loss_); }

void Trainer::accumulate(const HostBatch& batch, int64_t targets) {
  upload(runtime_.backend, batch, batch_);
  model_.train(batch_, 1.0f / static_cast<float>(std::max<int64_t>(1, targets)), loss_);
}

void Trainer::sum_over_data() {
  if (data_.size() == 1) return;
  for (const Weight& weight : parameters_.weights()) data_.all_reduce(weight.gradient).wait();
  data_.all_reduce(loss_).wait();
}

StepResult Trainer::finish(int64_t targets) {
  model_.sum_gradients();
  sum_over_data();
  runtime_.ledger.enter(Phase::optimizer);
  runtime_.backend.zero(squared_norm_);
  for (const Parameter& row : parameters_.rows())
    if (row.counted) runtime_.backend.add_sum_of_squares(row.of(row.weight->gradient), squared_norm_);
  runtime_.tp.all_reduce(squared_norm_).wait();
  return {scalar(loss_) / static_cast<double>(std::max<int64_t>(1, targets)), std::sqrt(scalar(squared_norm_))};
}

void Trainer::update(const AdamWOptions& options) {
  for (const Weight& weight : parameters_.weights()) {
    AdamWOptions own = options;
    if (!weight.decays) own.weight_decay = 0;
    runtime_.backend.adamw(own, weight.value, weight.rest, weight.gradient, weight.m, weight.v,
                           options.max_grad_norm > 0 ? squared_norm_ : Tensor{});
  }
}

double Trainer::evaluate(const HostBatch& batch) {
  upload(runtime_.backend, batch, batch_);
  runtime_.backend.zero(loss_);
  model_.add_loss(batch_, loss_);
  return scalar(loss_);
}

double Trainer::scalar(const Tensor& value) {
  double host = 0;
  runtime_.backend.download(value, &host);
  return host;
}

std::string Trainer::blame(const HostBatch& batch) {
  upload(runtime_.backend, batch, batch_);
  std::string place = model_.first_not_finite(batch_);
  if (!place.empty()) return place;
  for (const Parameter& row : parameters_.rows()) {
    std::vector<float> host(static_cast<size_t>(row.of(row.weight->gradient).elements()));
    runtime_.backend.download(row.of(row.weight->gradient), host.data());
    if (!std::all_of(host.begin(), host.end(), [](float value) { return std::isfinite(value); }))
      return "the gradient of " + row.name;
  }
  return "the loss itself";
}

void rehearse_training(const ModelConfig& config, const TensorParallelPlan& plan, const TrainerOptions& options,
                       Runtime& runtime, Communicator& data) {
  Trainer trainer(config, plan, options, runtime, data);
  HostBatch batch;
  fill_batch(Dataset{}, {}, options.batch, batch);
  trainer.begin();
  trainer.accumulate(batch, 1);
  trainer.finish(1);
  trainer.update({});
  if (options.evaluates) trainer.evaluate(batch);
  runtime.ledger.enter(Phase::save);
}

MemoryPlan plan_training(const ModelConfig& config, const TensorParallelPlan& plan, const TrainerOptions& options,
                         Backend& backend, const Runtime& runtime, const Communicator& data) {
  return rehearse(backend, runtime, [&](Runtime& rehearsal) {
    MetaCommunicator data_ranks(data.rank(), data.size());
    rehearse_training(config, plan, options, rehearsal, data_ranks);
  });
}

}  // namespace llama_tp
