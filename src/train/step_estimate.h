// How long a step would take on a device if every operation ran at the datasheet's limit that binds it (a roofline:
// Williams et al. 2009) and every collective as a ring at that of its links, with a latency for each of its steps,
// in the order in which the rehearsal asked for them: operations one after another, and beside them, on a stream of
// each group (docs/cuda.md), the collectives that are not waited for at once. Neither a measurement nor a bound:
// real operations are slower, the more so beside collectives, groups that share links take bandwidth from each
// other, and switches that add (NVLink SHARP, which docs/cuda.md leaves off) would spare an all-reduce a part of
// what a ring sends.
#pragma once

#include <string>

#include "train/device_sheet.h"
#include "train/training_plan.h"

namespace llama_tp {

struct StepEstimate {
  double products = 0;       // seconds in operations that arithmetic binds,
  double memory = 0;         // that memory traffic binds,
  double communication = 0;  // and in collectives,
  double exposed = 0;        // of which operations wait for so many

  double seconds() const { return products + memory + exposed; }
  // "arithmetic", "memory" or "communication": what takes the most of these seconds.
  std::string bound() const;
};

// Bytes that a rank sends in a ring (Patarasu & Yuan 2009): the payload once for a gathering or a scattering, less its
// own part, and twice for an all-reduce, which is both.
double sent_bytes(Collective collective, const Traffic& traffic, int size);

// Of the slowest of the ranks, which are all of the world.
StepEstimate estimate_step(const std::vector<RankPlan>& ranks, const DeviceSheet& device);

}  // namespace llama_tp
