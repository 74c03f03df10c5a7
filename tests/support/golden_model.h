// A golden of tests/goldens/models on this run's ranks, all of them tensor-parallel.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/device.h"
#include "io/dataset.h"
#include "io/safetensors.h"
#include "model/placement.h"
#include "support/ranks.h"
#include "train/evaluator.h"
#include "train/trainer.h"

namespace llama_tp {

struct GoldenModel {
  // config_name: config.json or respelled.json.
  GoldenModel(const std::string& name, DType dtype, const std::string& config_name = "config.json");

  // One sample of input.jsonl as a batch of its own.
  HostBatch batch(int64_t sample) const;
  std::vector<float> golden(const std::string& tensor) const;
  // A trainer with the golden's weights, for batches of one sample (whose length is the longest's).
  std::unique_ptr<Trainer> trainer(bool recompute = false, int64_t micro_batch = 1);
  std::unique_ptr<Evaluator> evaluator();
  // Every gradient whole, by name, on rank 0; collective.
  std::vector<std::pair<std::string, std::vector<float>>> gradients(Trainer& trainer);

  std::string folder;
  ModelConfig config;
  TensorParallelPlan plan;
  std::unique_ptr<Mesh> mesh;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Runtime> runtime;
  Dataset data;
  BatchShape shape;
  int64_t targets = 0;  // of all samples
};

// The largest |a − b|, and the largest |b|.
struct Difference {
  double error = 0, magnitude = 0;
};
Difference difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace llama_tp
