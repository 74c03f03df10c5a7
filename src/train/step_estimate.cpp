#include "train/step_estimate.h"

#include <algorithm>
#include <numeric>

namespace llama_tp {

double sent_bytes(Collective collective, const Traffic& traffic, int size) {
  const double once = static_cast<double>(traffic.bytes) * (size - 1) / size;
  return collective == Collective::all_reduce ? 2 * once : once;
}

namespace {

// Bytes/s that a rank of the group passes on: a ring is as fast as its slowest link. Nodes hold successive ranks.
// The group's ranks are `stride` apart, between two multiples of `reach`. Where a node is a multiple of `reach`, or has
// all ranks, the ring stays inside of nodes. Else their borders cut what lies between two multiples into parts, the
// shortest of gcd(reach, node) ranks, which has gcd / stride of the group's, or one where that is less. A node sends
// through the adapters of the group's ranks on it, each its own: NCCL makes rings through all of them, which share the
// payload. The adapters of ranks of other groups are busy with theirs.
double ring_bandwidth(const GroupTraffic& group, int64_t world, const DeviceSheet& device) {
  const int64_t node = device.devices_of_a_node, stride = group.reach / group.size;
  if (world <= node || node % group.reach == 0) return device.link_bandwidth;
  const int64_t adapters = std::max<int64_t>(1, std::gcd(group.reach, node) / stride);
  return std::min(device.link_bandwidth, static_cast<double>(adapters) * device.network_bandwidth);
}

StepEstimate estimate_rank(const RankPlan& rank, int64_t world, const DeviceSheet& device) {
  StepEstimate estimate;
  for (const Work& work : rank.work) {
    const double arithmetic = work.flops / device.bf16_flops, traffic = work.bytes / device.memory_bandwidth;
    (arithmetic >= traffic ? estimate.products : estimate.memory) += std::max(arithmetic, traffic);
  }
  for (const GroupTraffic& group : rank.traffic) {
    const double bandwidth = ring_bandwidth(group, world, device);
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
  int64_t world = 0;
  for (const RankPlan& rank : ranks) world += std::ssize(rank.ranks);
  StepEstimate slowest;
  for (const RankPlan& rank : ranks)
    if (const StepEstimate own = estimate_rank(rank, world, device); own.seconds() > slowest.seconds()) slowest = own;
  return slowest;
}

}  // namespace llama_tp
