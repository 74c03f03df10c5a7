// How long a step would take on a device if every operation and every collective ran at the datasheet's limit that
// binds it, one after another (a roofline: Williams et al. 2009). A bound that real runs stay above, not a measurement.
#pragma once

#include <string>

#include "train/device_sheet.h"
#include "train/training_plan.h"

namespace llama_tp {

struct StepEstimate {
  double products = 0;       // seconds in operations that arithmetic binds,
  double memory = 0;         // that memory traffic binds,
  double communication = 0;  // and in collectives, none of it hidden behind work

  double seconds() const { return products + memory + communication; }
  // "arithmetic", "memory" or "communication": what takes the most.
  std::string bound() const;
};

// Bytes that a rank sends in a ring (Patarasu & Yuan 2009): the payload once for a gathering or a scattering, less its
// own part, and twice for an all-reduce, which is both.
double sent_bytes(Collective collective, const Traffic& traffic, int size);

// Of the slowest of the ranks.
StepEstimate estimate_step(const std::vector<RankPlan>& ranks, const DeviceSheet& device);

}  // namespace llama_tp
