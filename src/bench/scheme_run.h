// A few training steps of one scheme, measured: memory beside its plan, time by phase, what is sent.
#pragma once

#include "bench/bench.h"
#include "bench/scheme.h"
#include "bench/step_record.h"
#include "train/training_plan.h"

namespace llama_tp {

using GroupTraffics = std::array<Traffics, group_count>;

// Of one rank, in a form that can be sent.
struct RankMemory {
  int64_t planned_peak = 0, peak = 0;
  int64_t reserved = 0;  // of the arenas
  int64_t given = 0;     // by the system, from before they were reserved to behind the last step
  int64_t in_use = 0;    // of a device's memory behind the last step, as its driver counts; 0: on the CPU
  CategoryBytes planned{}, measured{};
  GroupTraffics planned_traffic{}, traffic{};  // of a step

  // To the byte, and to the call.
  bool as_planned() const;
};

struct SchemeResult {
  Scheme scheme;
  BatchShape batch;
  std::array<int, group_count> group_sizes{};
  std::vector<RankMemory> ranks;
  std::vector<double> losses;       // of every step; the first is not timed
  std::vector<StepRecord> records;  // of the step that took the median time, by rank

  // Else it does not fit, and there is nothing but the scheme and its batch.
  bool is_measured() const { return !ranks.empty(); }
  // The rank whose peak is highest.
  const RankMemory& fullest() const;
  bool as_planned() const;
  int64_t tokens() const { return batch.global_batch() * batch.block_size; }
  // The mean of the ranks, who begin and end a step together.
  double seconds() const;
  PhaseTimes times() const;
  double communication() const;  // seconds
  double tokens_per_second() const { return static_cast<double>(tokens()) / seconds(); }
  // Bytes that the fullest rank sends in a step, in a ring.
  double sent(int group, Collective collective) const;
};

// The same tokens and weights for every scheme. Collective.
SchemeResult run_scheme(const Bench& bench, const Scheme& scheme, const BatchShape& batch);
// On the mesh and with the samples of the options.
SchemeResult run_usual_scheme(const Bench& bench);

}  // namespace llama_tp
