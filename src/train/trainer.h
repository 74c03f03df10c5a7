// One training step on this rank: gradients of a global batch, their norm, AdamW. All memory is taken when the trainer
// is made; which amounts a run needs is found by making one on a rehearsal's runtime and letting it take a step
// (plan_training).
#pragma once

#include <cstdint>
#include <string>

#include "model/transformer.h"
#include "train/batches.h"
#include "train/gradient_sums.h"

namespace llama_tp {

struct TrainerOptions {
  BatchShape batch;
  bool recompute = false;  // --gradient-checkpointing
  bool evaluates = false;  // forwards without gradients happen, too
  FsdpOptions fsdp;
};

struct StepResult {
  double loss = 0;           // mean over the targets of the global batch
  double gradient_norm = 0;  // before clipping
};

class Trainer {
 public:
  // Weights are not filled yet (model/checkpoint.h); gradients and moments are zero.
  Trainer(const ModelConfig& config, const TrainerOptions& options, Runtime& runtime);

  // A step is: begin, accumulate for each of its micro-batches, finish, update.
  void begin(int64_t micro_batches = 1);
  // Adds the gradients of Σ loss / target_count, which is of the whole global batch, on every rank and of every
  // micro-batch. So gradients are sums, never means of means: however samples are dealt out, each target weighs the same.
  // Behind the step's last backward of a unit the sums of its gradients over ranks begin.
  void accumulate(const HostBatch& batch, int64_t target_count);
  // Ends the sums over the ranks. The gradients are those of the global batch from here on.
  StepResult finish(int64_t target_count);
  // One AdamW step; the gradients are zero afterwards.
  void update(const AdamWOptions& options);

  // Σ loss over a batch's targets, without gradients, on this data rank.
  double evaluate(const HostBatch& batch);

  // After a loss or norm that is not finite: where a forward of this batch stops being finite, "" where it does not; as
  // collective as evaluate. And the first gradient of which this rank's piece is not finite, "" for none.
  std::string blame_forward(const HostBatch& batch);
  std::string blame_gradient() const;

  Parameters& parameters() { return parameters_; }
  Transformer& model() { return model_; }

 private:
  double scalar(const Tensor& value);

  Runtime& runtime_;
  TrainerOptions options_;
  Parameters parameters_;
  Batch batch_;
  Tensor loss_;          // [1] f64  Σ over the targets
  Tensor squared_norm_;  // [1] f64
  Transformer model_;
  GradientSums sums_;
  int64_t micro_batches_left_ = 0;  // of the step
};

// One step of one forward, with evaluation where the run has any, on a runtime that only counts: a batch of the largest
// size, made of padding.
void rehearse_training(const ModelConfig& config, const TrainerOptions& options, Runtime& runtime);

// The memory that a rank of the mesh needs for training, found by a step that computes nothing. Also prepares backend
// for the shapes of the run, so that no step allocates.
MemoryPlan plan_training(const ModelConfig& config, const TrainerOptions& options, Backend& backend,
                         const Runtime& runtime);

}  // namespace llama_tp
