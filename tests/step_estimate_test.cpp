// How long collectives are said to take, beside rings over a mesh that is laid out rank by rank.
#include "train/step_estimate.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

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

// Of groups of `size` ranks that are `stride` apart.
double estimated_bandwidth(int size, int64_t stride, int64_t world, int64_t node) {
  RankPlan plan;
  plan.ranks.resize(static_cast<size_t>(world));
  std::iota(plan.ranks.begin(), plan.ranks.end(), 0);
  GroupTraffic group{"fsdp", size, size * stride};
  group.of[static_cast<size_t>(Collective::all_gather)] = {1, static_cast<int64_t>(payload)};
  plan.traffic = {group};
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

}  // namespace
}  // namespace llama_tp
