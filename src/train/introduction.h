// What a training run says of itself before its first step.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "model/runtime.h"
#include "parallel/mesh.h"
#include "train/batches.h"
#include "train/training_settings.h"

namespace llama_tp {

struct Introduction {
  const TrainingSettings& settings;
  const ModelConfig& config;
  const Mesh& mesh;
  const BatchShape& shape;
  const Dataset &data, &validation;
  std::string origin;                   // the folder that the weights come from; "" where they are random
  std::vector<std::string> resumption;  // lines on the checkpoint that the run goes on from
  std::string device;
  std::string tokenized_before;  // the file that spared the tokenizing, or ""
  int64_t steps_per_epoch;
  const MemoryPlan& memory;
};

std::vector<std::string> lines_of(const Introduction& run);

}  // namespace llama_tp
