// FLOPs of the model, as model FLOPs utilization counts them (Chowdhery et al. 2022, PaLM, appendix B), here with
// attention's causal half: forward and backward of a sequence of S tokens take, a token, 6 for each parameter but the
// input embedding's, and 6 · heads · head_dim · S for each layer's attention; of a layer whose window W is shorter than
// the sequence, what the window leaves of it: W · (2 − W / S) in place of S, 12 for each element of a key that a token
// sees, itself half. What --gradient-checkpointing computes again is not counted.
#pragma once

#include <cstdint>
#include <span>

#include "io/dataset.h"
#include "model/config.h"
#include "train/batches.h"

namespace llama_tp {

// Of a run's steps, one after another: the parameters are counted once, by a table of all of them.
class StepFlops {
 public:
  explicit StepFlops(const ModelConfig& config);
  // Of these samples, whose sequences do not see each other.
  double of(const Dataset& data, std::span<const int64_t> samples) const;

 private:
  const ModelConfig& config_;
  double parameters_;
};

// Of a step of the whole mesh, in which every sample is one whole sequence.
double model_flops(const ModelConfig& config, const BatchShape& batch);

}  // namespace llama_tp
