#include "train/step_estimate.h"

#include <algorithm>

namespace llama_tp {

double sent_bytes(Collective collective, const Traffic& traffic, int size) {
  const double once = static_cast<double>(traffic.bytes) * (size - 1) / size;
  return collective == Collective::all_reduce ? 2 * once : once;
}

namespace {

StepEstimate estimate_rank(const RankPlan& rank, const DeviceSheet& device) {
  StepEstimate estimate;
  for (const Work& work : rank.work) {
    const double arithmetic = work.flops / device.bf16_flops, traffic = work.bytes / device.memory_bandwidth;
    (arithmetic >= traffic ? estimate.products : estimate.memory) += std::max(arithmetic, traffic);
  }
  for (const GroupTraffic& group : rank.traffic) {
    // A ring is as fast as its slowest link.
    const double bandwidth = group.reach <= device.devices_of_a_node ? device.link_bandwidth : device.network_bandwidth;
    for (size_t i = 0; i < group.of.size(); i++)
      estimate.communication += sent_bytes(static_cast<Collective>(i), group.of[i], group.size) / bandwidth;
  }
  return estimate;
}

}  // namespace

std::string StepEstimate::bound() const {
  if (communication > std::max(products, memory)) return "communication";
  return products >= memory ? "arithmetic" : "memory";
}

StepEstimate estimate_step(const std::vector<RankPlan>& ranks, const DeviceSheet& device) {
  StepEstimate slowest;
  for (const RankPlan& rank : ranks)
    if (const StepEstimate own = estimate_rank(rank, device); own.seconds() > slowest.seconds()) slowest = own;
  return slowest;
}

}  // namespace llama_tp
