// What a training run that does not fit is told: its own plan, and what would fit instead.
#pragma once

#include <string>

#include "train/training_plan.h"

namespace llama_tp {

// A rank's run as it was asked for.
struct AskedTraining {
  const ModelConfig& config;
  TrainerOptions options;
  MeshShape mesh;
  int rank;
  DType dtype;
  int64_t micro_batch;       // as it was given; the options have fewer samples where the data do
  int64_t global_batch = 0;  // as it was given; 0: it follows from the others
};

// One line for an error: what the rank needs by category, and what of fewer samples a forward, recompute and more ranks
// with as much memory fits into `free` bytes, each with its figure; where none of them does alone, all together. What
// the global batch cannot be divided by is not named.
std::string describe_too_large(const AskedTraining& asked, int64_t free, Backend& backend);

}  // namespace llama_tp
