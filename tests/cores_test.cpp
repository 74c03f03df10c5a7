// Processors as Linux lists them, and how the ranks of a node divide them.
#include "parallel/cores.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "made_up_system.h"

namespace llama_tp {
namespace {

TEST(Cores, ListsAreReadAsLinuxWritesThem) {
  EXPECT_EQ(parse_processor_list("0-3,8,10-11"), (Processors{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(parse_processor_list("5"), Processors{5});
  EXPECT_EQ(parse_processor_list(""), Processors{});
  EXPECT_THROW(parse_processor_list("1,"), Error);
  EXPECT_THROW(parse_processor_list("a-b"), Error);
}

TEST(Cores, SharesAreContiguousDisjointAndComplete) {
  Processors cores;
  for (int core = 0; core < 10; core++) cores.push_back(10 + core);
  Processors joined;
  for (int rank = 0; rank < 4; rank++) {
    const Processors share = share_of(cores, rank, 4);
    EXPECT_GE(share.size(), 2u);
    EXPECT_LE(share.size(), 3u);
    joined.insert(joined.end(), share.begin(), share.end());
  }
  EXPECT_EQ(joined, cores);
  EXPECT_EQ(share_of(cores, 3, 11), cores);
}

class ProcessorQuota : public MadeUpSystem {
 protected:
  int quota() const { return processor_quota(root()); }
};

TEST_F(ProcessorQuota, IsTheLeastOfAnyControlGroupAboveRoundedUp) {
  write("proc/self/cgroup", "1:memory:/\n0::/outer/inner\n");
  EXPECT_EQ(quota(), std::numeric_limits<int>::max());  // no such files
  write("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::numeric_limits<int>::max());
  write("sys/fs/cgroup/outer/cpu.max", "250000 100000\n");
  EXPECT_EQ(quota(), 3);
  write("sys/fs/cgroup/outer/inner/cpu.max", "1000 100000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(ProcessorQuota, OfVersion1IsThatOfTheGroupsOfTheProcessors) {
  const auto group = [&](const std::string& path, int64_t quota) {
    const std::string cpu = "sys/fs/cgroup/cpu" + path + "/cpu.cfs_";
    write(cpu + "quota_us", std::to_string(quota) + "\n");
    write(cpu + "period_us", "100000\n");
  };
  write("proc/self/cgroup", "5:cpuset:/other\n4:cpuacct,cpu:/docker/it\n0::/\n");
  group("/docker/it", -1);
  EXPECT_EQ(quota(), std::numeric_limits<int>::max());
  group("", 800000);  // as a container sees its own
  EXPECT_EQ(quota(), 8);
  group("/docker", 600000);
  EXPECT_EQ(quota(), 6);
  group("/docker/it", 400000);
  EXPECT_EQ(quota(), 4);
}

TEST_F(ProcessorQuota, IsReadWhereTheGroupsAreMountedIfNobodyNamesOne) {
  write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(quota(), 2);
}

}  // namespace
}  // namespace llama_tp
