// Every mesh, micro-batch and recompute setting that a number of ranks admits, rehearsed one after another.
#pragma once

#include <vector>

#include "commands/plan_question.h"
#include "train/step_estimate.h"

namespace llama_tp {

// With a device, and so with a memory to fit.
struct SearchSpace : PlanQuestion {
  int64_t ranks = 1;
  int64_t global_batch = 1;  // samples of a step, the same for all settings
  int64_t most_samples = 1;  // of a forward
};

struct PlannedSetting {
  MeshShape mesh;
  TrainerOptions options;
  int64_t peak = 0, state = 0, gathered = 0, activations = 0;  // bytes of the rank that needs the most
  StepEstimate estimate;
  double tokens_per_second = 0, mfu = 0;
};

struct SearchResult {
  std::vector<PlannedSetting> fitting;  // fastest first
  int64_t tried = 0;
  int64_t smallest = 0;  // bytes of the setting that needs least, whether it fits or not
};

// A tensor-parallel size is tried if the model's sizes allow it, a micro-batch if with the mesh it divides the global
// batch; no larger one where one did not fit. tried counts those that were rehearsed.
SearchResult search(const SearchSpace& space);

// The fastest setting of each mesh, and some more.
void print_search(const SearchSpace& space, const SearchResult& result);
// All that fit.
void print_search_json(const SearchSpace& space, const SearchResult& result);

}  // namespace llama_tp
