// What `llama_tp plan` prints: tables for people, or JSON.
#pragma once

#include "commands/plan_question.h"
#include "train/step_estimate.h"

namespace llama_tp {

struct PlannedStep : PlanQuestion {
  MeshShape mesh = {};
  TrainerOptions options = {};
  std::vector<RankPlan> ranks = {};
  int64_t checkpoint_bytes = 0;  // of its safetensors files, and of the model's alone
  int64_t model_bytes = 0;
  bool longest = false;               // options' block size is what --max-sequence found
  bool longer_was_not_tried = false;  // and might fit

  int64_t peak_bytes() const;  // of the rank that needs the most
  double tokens() const { return static_cast<double>(options.batch.global_batch() * options.batch.block_size); }
  int world() const { return mesh.ranks(); }
};

// by_phase: memory and collectives by phase of the step, and the latter's calls.
void print_plan(const PlannedStep& step, bool by_phase);
void print_plan_json(const PlannedStep& step);

}  // namespace llama_tp
