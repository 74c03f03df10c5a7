// The order of samples is a random permutation.
#include "io/sample_order.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

namespace llama_tp {
namespace {

TEST(SampleOrder, IsAPermutationThatSeedAndEpochChange) {
  const SampleOrder order(1000, 42, 0), again(1000, 42, 0), next(1000, 42, 1), other(1000, 43, 0);
  std::set<int64_t> seen;
  int64_t same_place = 0, as_next = 0, as_other = 0;
  for (int64_t i = 0; i < order.size(); i++) {
    seen.insert(order[i]);
    EXPECT_EQ(order[i], again[i]);
    same_place += order[i] == i, as_next += order[i] == next[i], as_other += order[i] == other[i];
  }
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_EQ(*seen.rbegin(), 999);
  // One agreement is expected of two random permutations; ten have a probability below 1e-6.
  EXPECT_LT(same_place, 10);
  EXPECT_LT(as_next, 10);
  EXPECT_LT(as_other, 10);
  EXPECT_EQ(SampleOrder(0, 1, 0).size(), 0);
  EXPECT_EQ(SampleOrder(1, 1, 0)[0], 0);
}

// All 24 orders of four samples in 24,000 epochs: each 1000 times but for five standard deviations of about 31.
TEST(SampleOrder, EveryOrderIsAsLikelyAsEveryOther) {
  std::map<std::vector<int64_t>, int> counts;
  for (int64_t epoch = 0; epoch < 24000; epoch++) {
    const SampleOrder order(4, 7, epoch);
    counts[{order[0], order[1], order[2], order[3]}]++;
  }
  EXPECT_EQ(counts.size(), 24u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 5 * 31);
}

}  // namespace
}  // namespace llama_tp
