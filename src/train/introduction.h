// What a training run says of itself before its first step.
#pragma once

#include <string>
#include <vector>

#include "model/runtime.h"
#include "train/training_setup.h"

namespace llama_tp {

std::vector<std::string> introduction(const TrainingSetup& run, const MemoryPlan& memory, const Launch& launch);

}  // namespace llama_tp
