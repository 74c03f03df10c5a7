#include "train/step_estimate.h"

#include <algorithm>
#include <numeric>

namespace llama_tp {

double sent_bytes(Collective collective, const Traffic& traffic, int size) {
  const double once = static_cast<double>(traffic.bytes) * (size - 1) / size;
  return collective == Collective::all_reduce ? 2 * once : once;
}

namespace {

struct Ring {
  double bandwidth;  // bytes/s that a rank passes on: a ring is as fast as its slowest link
  int64_t nodes;     // through which it goes
};

// The most nodes that a group of the mesh lies on. Its ranks are `stride` apart, and groups begin at multiples of
// gcd(reach, node), less up to stride − 1.
int64_t nodes_of(const GroupTraffic& group, int64_t stride, int64_t node) {
  if (stride >= node) return group.size;
  const int64_t last_begin = std::min(node - 1, node - std::gcd(group.reach, node) + stride - 1);
  return std::min<int64_t>(group.size, (last_begin + (group.size - 1) * stride) / node + 1);
}

// Nodes hold successive ranks. The group's ranks are `stride` apart, between two multiples of `reach`. Where a node is a
// multiple of `reach`, or has all ranks, the ring stays inside of nodes. Else their borders cut what lies between two
// multiples into parts, the shortest of gcd(reach, node) ranks, which has gcd / stride of the group's, or one where that
// is less. A node sends through the adapters of the group's ranks on it, each its own: NCCL makes rings through all of
// them, which share the payload. The adapters of ranks of other groups are busy with theirs.
Ring ring_of(const GroupTraffic& group, int64_t world, const DeviceSheet& device) {
  const int64_t node = device.devices_of_a_node, stride = group.reach / group.size;
  if (world <= node || node % group.reach == 0) return {device.link_bandwidth, 1};
  const int64_t adapters = std::max<int64_t>(1, std::gcd(group.reach, node) / stride);
  return {std::min(device.link_bandwidth, static_cast<double>(adapters) * device.network_bandwidth),
          nodes_of(group, stride, node)};
}

// All ranks' parts pass all others, step by step: once, or twice in an all-reduce.
double ring_seconds(Collective collective, const Traffic& traffic, int size, const Ring& ring,
                    const DeviceSheet& device) {
  const double once = static_cast<double>(size - ring.nodes) * device.link_latency +
                      static_cast<double>(ring.nodes - 1) * device.network_latency;
  return device.collective_latency + (collective == Collective::all_reduce ? 2 : 1) * once +
         sent_bytes(collective, traffic, size) / ring.bandwidth;
}

// A rank's streams while it goes through its events.
class Replay {
 public:
  Replay(const RankPlan& rank, int64_t world, const DeviceSheet& device)
      : rank_(rank), world_(world), device_(device), free_at_(rank.traffic.size()) {}

  StepEstimate through(const std::vector<TimelineEvent>& events) {
    std::vector<double> ends(events.size());  // of collectives
    for (size_t i = 0; i < events.size(); i++) switch (events[i].kind) {
        case TimelineEvent::Kind::work:
          work(events[i]);
          break;
        case TimelineEvent::Kind::collective:
          ends[i] = end_of(events[i]);
          break;
        case TimelineEvent::Kind::wait:
          wait_until(ends[events[i].awaited]);
      }
    return estimate_;
  }

 private:
  void work(const TimelineEvent& event) {
    const double arithmetic = event.flops / device_.bf16_flops, traffic = event.bytes / device_.memory_bandwidth;
    (arithmetic >= traffic ? estimate_.products : estimate_.memory) += std::max(arithmetic, traffic);
    now_ += std::max(arithmetic, traffic);
  }

  // Begins behind what was computed before its call, and, as all groups' begin in the order of the program, not before
  // the one that was called last.
  double end_of(const TimelineEvent& event) {
    const GroupTraffic& group = rank_.traffic[static_cast<size_t>(event.group)];
    const double seconds =
        ring_seconds(event.collective, event.traffic, group.size, ring_of(group, world_, device_), device_);
    double& free_at = free_at_[static_cast<size_t>(event.group)];
    begun_ = std::max({now_, begun_, free_at});
    estimate_.communication += seconds;
    return free_at = begun_ + seconds;
  }

  void wait_until(double end) {
    estimate_.exposed += std::max(0.0, end - now_);
    now_ = std::max(now_, end);
  }

  const RankPlan& rank_;
  int64_t world_;
  const DeviceSheet& device_;
  double now_ = 0, begun_ = 0;   // of the compute stream; of the last collective
  std::vector<double> free_at_;  // each group's stream
  StepEstimate estimate_;
};

StepEstimate estimate_rank(const RankPlan& rank, int64_t world, const DeviceSheet& device) {
  StepEstimate all = Replay(rank, world, device).through(rank.events);
  if (rank.repeated == 0) return all;
  const StepEstimate one = Replay(rank, world, device).through(rank.events_of_one);
  for (const auto part :
       {&StepEstimate::products, &StepEstimate::memory, &StepEstimate::communication, &StepEstimate::exposed})
    all.*part += (all.*part - one.*part) * static_cast<double>(rank.repeated);
  return all;
}

}  // namespace

std::string StepEstimate::bound() const {
  if (exposed > std::max(products, memory)) return "communication";
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
