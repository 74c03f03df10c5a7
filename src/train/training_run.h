// `llama_tp train`: from a model and a text to checkpoints and metrics.
#pragma once

#include "parallel/launch.h"
#include "train/training_settings.h"

namespace llama_tp {

// Returns the exit status. Errors: anything wrong with files, sizes or values; nothing that was saved before is
// touched.
int run_training(TrainingSettings settings, const Launch& launch);

}  // namespace llama_tp
