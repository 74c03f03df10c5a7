// A training step of a whole mesh, rehearsed in one process: each rank that differs from those before it takes the step
// on the meta backend and meta communicators, whatever the model's size; nothing is computed, sent or reserved.
#pragma once

#include <array>
#include <vector>

#include "model/config.h"
#include "parallel/mesh.h"
#include "parallel/timeline.h"
#include "train/traffic.h"
#include "train/trainer.h"

namespace llama_tp {

// What one step took of ranks that are alike.
struct RankPlan {
  std::vector<int64_t> ranks;  // of the world
  MemoryPlan memory;
  Ledger ledger;
  std::vector<GroupTraffic> traffic;
  std::array<Work, static_cast<size_t>(Operation::count_)> work{};
  // The order of that. Of more than two forwards: two of them, whose difference to one comes `repeated` times more.
  std::vector<TimelineEvent> events, events_of_one;
  int64_t repeated = 0;
};

// One entry for ranks that are alike, down to the pieces that they hold: one without a piece of some norm takes no part
// in that norm's sum. Ranks that update as many elements in a different number of calls count as alike. backend: asked
// for the scratch memory of each operation. Errors: check_tensor_parallel's.
std::vector<RankPlan> plan_ranks(const ModelConfig& config, const TrainerOptions& options, MeshShape mesh, DType dtype,
                                 Backend& backend);

// Of one rank of the world, in its own place.
RankPlan plan_rank(const ModelConfig& config, const TrainerOptions& options, MeshShape mesh, int rank, DType dtype,
                   Backend& backend);

// The one that needs the most memory.
const RankPlan& fullest(const std::vector<RankPlan>& ranks);
// What that one holds of a group at its peak.
int64_t held_at_peak(const std::vector<RankPlan>& ranks, MemoryGroup group);

}  // namespace llama_tp
