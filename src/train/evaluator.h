// A model that only looks: losses and logits of samples, without gradients.
#pragma once

#include <functional>

#include "model/transformer.h"
#include "train/batches.h"

namespace llama_tp {

class Evaluator {
 public:
  // Rows of logits that are gathered at a time.
  static constexpr int64_t logits_piece = 64;

  // Weights are not filled yet.
  Evaluator(const ModelConfig& config, const BatchShape& shape, Runtime& runtime);

  // Σ loss over the batch's targets.
  double loss(const HostBatch& batch);
  // Calls row(t, logits [vocabulary]) for the first `rows` tokens of the batch; the same on every tensor-parallel rank.
  void logits(const HostBatch& batch, int64_t rows, const std::function<void(int64_t, std::span<const float>)>& row);

  Parameters& parameters() { return parameters_; }

 private:
  Runtime& runtime_;
  Parameters parameters_;
  Batch batch_;
  Tensor loss_;  // [1] f64
  Transformer model_;
};

// with_logits: logits() will be called.
MemoryPlan plan_evaluation(const ModelConfig& config, const BatchShape& shape, bool with_logits, Backend& backend,
                           const Runtime& runtime);

}  // namespace llama_tp
