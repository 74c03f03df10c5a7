// How long collectives are said to take, beside rings over a mesh that is laid out rank by rank, and how much of that a
// step waits for, beside schedules drawn up by hand.
#include "train/step_estimate.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <set>

namespace llama_tp {
namespace {

constexpr double link = 450, network = 50, payload = 900;

DeviceSheet sheet(int64_t devices_of_a_node) {
  DeviceSheet device;
  device.bf16_flops = device.memory_bandwidth = 1;
  device.link_bandwidth = link;
  device.network_bandwidth = network;
  device.devices_of_a_node = devices_of_a_node;
  return device;
}

TimelineEvent gathered(int group) {
  TimelineEvent event{TimelineEvent::Kind::collective};
  event.group = group;
  event.collective = Collective::all_gather;
  event.traffic = {1, static_cast<int64_t>(payload)};
  return event;
}

TimelineEvent waited_for(size_t call) {
  TimelineEvent event{TimelineEvent::Kind::wait};
  event.awaited = call;
  return event;
}

// Of the sheet's device.
TimelineEvent computed(double seconds) { return {TimelineEvent::Kind::work, seconds, 0}; }

// Of groups of `size` ranks that are `stride` apart.
double estimated_bandwidth(int size, int64_t stride, int64_t world, int64_t node) {
  RankPlan plan;
  plan.ranks.resize(static_cast<size_t>(world));
  std::iota(plan.ranks.begin(), plan.ranks.end(), 0);
  plan.traffic = {{"fsdp", size, size * stride}};
  plan.events = {gathered(0), waited_for(0)};
  return payload * (size - 1) / size / estimate_step({plan}, sheet(node)).communication;
}

// The slowest of all groups. What leaves a node goes through the adapters of the group's ranks there.
double laid_out_bandwidth(int size, int64_t stride, int64_t world, int64_t node) {
  std::map<std::pair<int64_t, int64_t>, std::map<int64_t, int>> groups;  // members by node
  for (int64_t rank = 0; rank < world; rank++) groups[{rank / (size * stride), rank % stride}][rank / node]++;
  double slowest = link;
  for (const auto& [group, members_of] : groups)
    for (const auto& [at, members] : members_of)
      if (members_of.size() > 1) slowest = std::min(slowest, members * network);
  return slowest;
}

TEST(StepEstimate, ARingIsAsFastAsItsSlowestLinkWhereverItsRanksLie) {
  for (const int64_t node : {1, 2, 4, 6, 8, 12})
    for (const int size : {2, 3, 4, 5, 6, 8, 16})
      for (const int64_t stride : {1, 2, 3, 4, 8}) {
        const int64_t reach = size * stride;
        for (const int64_t world : {std::lcm(reach, node), 3 * std::lcm(reach, node), reach <= node ? reach : 0})
          if (world > 0) {
            EXPECT_NEAR(estimated_bandwidth(size, stride, world, node), laid_out_bandwidth(size, stride, world, node),
                        1e-6)
                << size << " ranks, " << stride << " apart, of " << world << " on nodes of " << node;
          }
      }
}

TEST(StepEstimate, RanksThatShareANodeShareItsNetworkAdapters) {
  EXPECT_NEAR(estimated_bandwidth(8, 1, 64, 8), link, 1e-9);
  EXPECT_NEAR(estimated_bandwidth(8, 8, 64, 8), network, 1e-9);       // one rank a node
  EXPECT_NEAR(estimated_bandwidth(16, 2, 32, 8), 4 * network, 1e-9);  // four
  EXPECT_NEAR(estimated_bandwidth(16, 1, 16, 8), 8 * network, 1e-9);
  EXPECT_NEAR(estimated_bandwidth(6, 1, 24, 8), 2 * network, 1e-9);  // the second six: two and four
}

// Of an all-gather without bytes.
double estimated_latency(int size, int64_t stride, int64_t world, DeviceSheet device, Collective collective) {
  RankPlan plan;
  plan.ranks.resize(static_cast<size_t>(world));
  plan.traffic = {{"fsdp", size, size * stride}};
  plan.events = {gathered(0), waited_for(0)};
  plan.events[0].collective = collective;
  plan.events[0].traffic = {1, 0};
  return estimate_step({plan}, device).communication;
}

// The nodes of the group that lies on most.
int64_t laid_out_nodes(int size, int64_t stride, int64_t world, int64_t node) {
  std::map<std::pair<int64_t, int64_t>, std::set<int64_t>> groups;
  for (int64_t rank = 0; rank < world; rank++) groups[{rank / (size * stride), rank % stride}].insert(rank / node);
  size_t most = 0;
  for (const auto& [group, nodes] : groups) most = std::max(most, nodes.size());
  return static_cast<int64_t>(most);
}

TEST(StepEstimate, EachStepOfARingHasTheLatencyOfItsLinkWhereverItsRanksLie) {
  for (const int64_t node : {1, 2, 4, 6, 8, 12}) {
    DeviceSheet device = sheet(node);
    device.collective_latency = 20, device.link_latency = 3, device.network_latency = 100;
    for (const int size : {2, 3, 4, 5, 6, 8, 9, 12, 16})
      for (const int64_t stride : {1, 2, 3, 4, 8, 16}) {
        const int64_t reach = size * stride, world = reach <= node ? reach : std::lcm(reach, node);
        const auto nodes = static_cast<double>(laid_out_nodes(size, stride, world, node));
        const double once = (size - nodes) * 3 + (nodes - 1) * 100;
        EXPECT_NEAR(estimated_latency(size, stride, world, device, Collective::all_gather), 20 + once, 1e-6)
            << size << " ranks, " << stride << " apart, of " << world << " on nodes of " << node;
        EXPECT_NEAR(estimated_latency(size, stride, world, device, Collective::all_reduce), 20 + 2 * once, 1e-6);
      }
  }
}

// Two groups of two ranks, whose gatherings take a second each.
StepEstimate estimated(const std::vector<TimelineEvent>& events) {
  RankPlan plan;
  plan.ranks = {0, 1, 2, 3};
  plan.traffic = {{"tensor", 2, 2}, {"fsdp", 2, 4}};
  plan.events = events;
  return estimate_step({plan}, sheet(4));
}

TEST(StepEstimate, AStepWaitsForWhatWorkDoesNotHide) {
  const auto expect = [](const std::vector<TimelineEvent>& events, double communication, double exposed,
                         double together) {
    const StepEstimate estimate = estimated(events);
    EXPECT_NEAR(estimate.communication, communication, 1e-9);
    EXPECT_NEAR(estimate.exposed, exposed, 1e-9);
    EXPECT_NEAR(estimate.seconds(), together, 1e-9);
  };
  const auto tensor = gathered(0), fsdp = gathered(1);
  expect({computed(3), tensor, waited_for(1), computed(3)}, 1, 1, 7);          // waited for at once
  expect({tensor, computed(3), waited_for(0)}, 1, 0, 3);                       // beside longer work
  expect({tensor, computed(0.25), waited_for(0)}, 1, 0.75, 1);                 // beside shorter work
  expect({computed(3), tensor, waited_for(1)}, 1, 1, 4);                       // work before it hides nothing
  expect({fsdp, fsdp, computed(1), waited_for(0), waited_for(1)}, 2, 1, 2);    // one group's come one by one,
  expect({fsdp, tensor, waited_for(1), computed(1), waited_for(0)}, 2, 1, 2);  // two groups' at once,
  expect({fsdp, fsdp, tensor, waited_for(2), computed(1), waited_for(1), waited_for(0)}, 3, 2, 3);  // but in order
}

// Each forward behind the second adds what that one added.
TEST(StepEstimate, FurtherForwardsTakeAsLongAsTheSecond) {
  RankPlan plan;
  plan.ranks = {0, 1};
  plan.traffic = {{"fsdp", 2, 2}};
  plan.events_of_one = {computed(5)};
  plan.events = {computed(5), gathered(0), computed(0.25), waited_for(1)};
  plan.repeated = 10;
  const StepEstimate estimate = estimate_step({plan}, sheet(4));
  EXPECT_NEAR(estimate.products, 5 + 11 * 0.25, 1e-9);
  EXPECT_NEAR(estimate.communication, 11, 1e-9);
  EXPECT_NEAR(estimate.exposed, 11 * 0.75, 1e-9);
}

}  // namespace
}  // namespace llama_tp
