// What the system says of its memory, from made-up files of /proc and /sys.
#include "backend/cpu/free_memory.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "made_up_system.h"

namespace llama_tp {
namespace {

class FreeMemory : public MadeUpSystem {
 protected:
  void group(const std::string& path, const std::string& limit, int64_t used, int64_t inactive) const {
    write("sys/fs/cgroup" + path + "/memory.max", limit + "\n");
    write("sys/fs/cgroup" + path + "/memory.current", std::to_string(used) + "\n");
    write("sys/fs/cgroup" + path + "/memory.stat",
          "anon 1\nfile 2\ninactive_anon 3\ninactive_file " + std::to_string(inactive) + "\nactive_file 4\n");
  }
  int64_t free() const { return free_host_memory(root()); }
};

TEST_F(FreeMemory, IsWhatIsAvailableAndSwap) {
  write("proc/meminfo", "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\nSwapFree: 50 kB\n");
  EXPECT_EQ(free(), 650 * 1024);
  write("proc/self/cgroup", "4:memory:/old\n");
  EXPECT_EQ(free(), 650 * 1024);
}

TEST_F(FreeMemory, IsNotMoreThanAnyControlGroupAboveLeaves) {
  write("proc/meminfo", "MemAvailable:    600 kB\n");
  write("proc/self/cgroup", "1:cpu:/\n0::/outer/inner\n");
  EXPECT_EQ(free(), 600 * 1024);  // no such files
  group("/outer/inner", "max", 1000, 10);
  EXPECT_EQ(free(), 600 * 1024);
  group("/outer", "50000", 20000, 300);
  EXPECT_EQ(free(), 30300);
  group("/outer/inner", "40000", 39000, 10);
  EXPECT_EQ(free(), 1010);
  group("", "500", 900, 0);
  EXPECT_EQ(free(), 0);
}

TEST_F(FreeMemory, IsNotMoreThanAControlGroupOfVersion1Leaves) {
  const auto group = [&](const std::string& path, int64_t limit, int64_t used, int64_t inactive) {
    const std::string memory = "sys/fs/cgroup/memory" + path + "/memory.";
    write(memory + "limit_in_bytes", std::to_string(limit) + "\n");
    write(memory + "usage_in_bytes", std::to_string(used) + "\n");
    write(memory + "stat", "inactive_file 7\ntotal_inactive_file " + std::to_string(inactive) + "\n");
  };
  constexpr int64_t no_limit = 9223372036854771712;  // whole pages of all that 63 bits count
  write("proc/meminfo", "MemAvailable:    600 kB\n");
  write("proc/self/cgroup", "5:cpuset:/other\n4:hugetlb,memory:/docker/it\n0::/\n");
  group("/docker/it", no_limit, 1000, 10);
  EXPECT_EQ(free(), 600 * 1024);
  group("/docker", no_limit, 1000, 1000000);  // counted at different times
  EXPECT_EQ(free(), 600 * 1024);
  group("", 50000, 20000, 300);  // as a container sees its own
  EXPECT_EQ(free(), 30300);
  group("/docker/it", 40000, 39000, 10);
  EXPECT_EQ(free(), 1010);
  write("sys/fs/cgroup/memory.max", "900\n");  // of both versions at once
  write("sys/fs/cgroup/memory.current", "500\n");
  EXPECT_EQ(free(), 400);
}

TEST_F(FreeMemory, IsUnlimitedWhereNobodySays) {
  EXPECT_EQ(free(), std::numeric_limits<int64_t>::max());
  write("proc/meminfo", "MemTotal:       1000 kB\n");
  EXPECT_EQ(free(), std::numeric_limits<int64_t>::max());
}

TEST_F(FreeMemory, IsTakenByPagesOfNoFileInMemoryOrSwappedOut) {
  EXPECT_EQ(taken_host_memory(root()), 0);
  write("proc/self/status",
        "Name:\tllama_tp\nVmRSS:\t 900 kB\nRssAnon:\t 500 kB\nRssFile:\t 400 kB\nVmSwap:\t 30 kB\n");
  EXPECT_EQ(taken_host_memory(root()), 530 * 1024);
  write("proc/self/smaps_rollup", "55d0-7fff ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPss: 700 kB\nPss_Shmem: 25 kB\n");
  EXPECT_EQ(taken_host_memory(root()), 555 * 1024);
  write("proc/self/status", "Name:\tllama_tp\nVmRSS:\t 900 kB\n");
  EXPECT_EQ(taken_host_memory(root()), 900 * 1024);
}

// What a rank has read before it reserves its arenas.
TEST(FreeMemoryOfThisMachine, IsLessByWhatThisProcessHasTakenSince) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps freed memory, and its shadow grows with ours";
#endif
  constexpr int64_t bytes = int64_t{64} << 20, beside = int64_t{4} << 20;
  const CpuBackend backend(1, false);
  const int64_t before = backend.free_memory();
  std::vector<char> data(bytes, 'a');
  asm volatile("" : : "r"(data.data()) : "memory");  // clang takes nothing for what nobody reads
  EXPECT_NEAR(static_cast<double>(before - backend.free_memory()), bytes, beside);
  std::vector<char>().swap(data);
  EXPECT_NEAR(static_cast<double>(before), static_cast<double>(backend.free_memory()), beside);
}

// Other processes may take of it between the two.
TEST(FreeMemoryOfThisMachine, IsSharedByTheRanksOfTheHost) {
  const int64_t alone = CpuBackend(1, false).free_memory(), of_four = CpuBackend(1, false, "", 4).free_memory();
  EXPECT_NEAR(static_cast<double>(of_four), static_cast<double>(alone) / 4, static_cast<double>(alone) / 10);
}

TEST(FreeMemoryOfThisMachine, IsNothingWhereMoreWasTakenThanThereWas) {
  const CpuBackend backend(1, false, "", std::numeric_limits<int>::max());
  const std::vector<char> data(int64_t{64} << 20, 'a');
  asm volatile("" : : "r"(data.data()) : "memory");
  EXPECT_EQ(backend.free_memory(), 0);
}

TEST(FreeMemoryOfThisMachine, IsSomeMebibytes) { EXPECT_GT(free_host_memory(), int64_t{16} << 20); }

}  // namespace
}  // namespace llama_tp
