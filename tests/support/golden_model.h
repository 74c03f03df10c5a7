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
  // All ranks for tensor parallelism. config_name: config.json or respelled.json.
  GoldenModel(const std::string& name, DType dtype, const std::string& config_name = "config.json");
  GoldenModel(const std::string& name, DType dtype, const std::string& config_name, const MeshOptions& mesh_options);

  virtual ~GoldenModel() = default;

  // One sample of input.jsonl as a batch of its own.
  HostBatch batch(int64_t sample) const;
  // The samples are dealt out to the data ranks; this one's batch of a round, which is padding where none is left.
  int64_t rounds() const;
  HostBatch batch_of_round(int64_t round) const;
  std::vector<float> golden(const std::string& tensor) const;
  // A trainer with the golden's weights, for batches of one sample (whose length is the longest's).
  std::unique_ptr<Trainer> trainer(bool recompute = false, int64_t micro_batch = 1, const FsdpOptions& fsdp = {});
  std::unique_ptr<Evaluator> evaluator();
  // Takes the memory for one of them, or for a generator.
  virtual void reserve(const MemoryPlan& memory) { runtime->reserve(memory); }
  // The most likely tokens behind a prompt, so many.
  std::vector<int32_t> greedy_tokens(const std::vector<int32_t>& prompt, size_t count);
  // Every gradient whole, by name, on rank 0; collective.
  std::vector<std::pair<std::string, std::vector<float>>> gradients(Trainer& trainer);

  std::string folder;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Mesh> mesh;
  std::unique_ptr<Runtime> runtime;
  Dataset data;
  BatchShape shape;
  int64_t targets = 0;  // of all samples
};

// Of these goldens those whose sizes the ranks divide. The ones that end in a number are made for so many.
std::vector<std::string> divided(const std::vector<std::string>& names);

// Every mesh that this run's ranks make.
std::vector<MeshOptions> all_meshes();

// The largest |a − b|, and the largest |b|.
struct Difference {
  double error = 0, magnitude = 0;
};
Difference difference(const std::vector<float>& a, const std::vector<float>& b);

// f32 logits are within 2e-5, gradients within 1e-4 of the tensor's largest magnitude. Where from: sums of up to 100
// products with a relative rounding of 2⁻²⁴ each, through two blocks, are off by some 1e-6; gradients pass twice as
// many sums and cancel more.
constexpr double logits_tolerance = 2e-5, gradient_tolerance = 1e-4;

// Takes a step over all samples of the golden and expects transformers' loss and gradients, and the norm of these.
void expect_golden_gradients(GoldenModel& model, bool recompute, const FsdpOptions& fsdp = {});

}  // namespace llama_tp
