// Rank 0's bytes on every rank, once between those of a node.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>

#include "backend/cpu/cpu_backend.h"
#include "parallel/host_values.h"
#include "parallel/mpi_host_group.h"
#include "parallel/node_bytes.h"
#include "report/resident.h"
#include "support/ranks.h"
#include "train/training_data.h"

namespace llama_tp {
namespace {

constexpr int64_t more_than_two_chunks = (int64_t{33} << 20) + 5;

char byte_at(int64_t i) { return static_cast<char>(i * 7 % 251); }

std::string rank_0s_bytes(int64_t size) {
  std::string bytes(static_cast<size_t>(ranks().rank() == 0 ? size : 3), '\0');
  for (int64_t i = 0; i < std::ssize(bytes); i++) bytes[static_cast<size_t>(i)] = byte_at(i);
  return bytes;
}

void expect_rank_0s(const NodeBytes& shared, int64_t size) {
  ASSERT_EQ(std::ssize(shared.bytes), size);
  for (int64_t i = 0; i < size; i++) ASSERT_EQ(shared.bytes[static_cast<size_t>(i)], byte_at(i)) << i;
}

// proc(5), /proc/PID/maps: "begin-end flags offset device inode path"; 0 of memory that is no file's.
int64_t inode_behind(const void* address) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0, end = 0;
    char hyphen = 0;
    std::string flags, offset, device;
    int64_t inode = 0;
    std::istringstream(line) >> std::hex >> begin >> hyphen >> end >> flags >> offset >> device >> std::dec >> inode;
    const auto place = reinterpret_cast<uintptr_t>(address);
    if (begin <= place && place < end) return inode;
  }
  return 0;
}

std::vector<int64_t> inodes_of(HostGroup& group, const NodeBytes& shared) {
  return gather_values(group, inode_behind(shared.bytes.data()));
}

// The soft limit as long as this lives.
class Limit {
 public:
  Limit(int resource, rlim_t value) : resource_(resource) {
    getrlimit(static_cast<__rlimit_resource>(resource_), &before_);
    const rlimit low{value, before_.rlim_max};
    setrlimit(static_cast<__rlimit_resource>(resource_), &low);
  }
  ~Limit() { setrlimit(static_cast<__rlimit_resource>(resource_), &before_); }

 private:
  int resource_;
  rlimit before_{};
};

TEST(NodeBytes, RanksOfANodeReadTheSameMemory) {
  const auto group = make_host_group(ranks());
  for (const int64_t size : {int64_t{1}, int64_t{4097}, more_than_two_chunks}) {
    const NodeBytes shared = share_on_nodes(*group, rank_0s_bytes(size));
    expect_rank_0s(shared, size);
    const std::vector<int64_t> inodes = inodes_of(*group, shared);
    EXPECT_NE(inodes[0], 0);
    EXPECT_EQ(inodes, std::vector(inodes.size(), inodes[0]));
  }
  EXPECT_TRUE(share_on_nodes(*group, {}).bytes.empty());
}

// What the next file to be opened gets.
int lowest_free_number() {
  const int number = dup(STDIN_FILENO);
  close(number);
  return number;
}

TEST(NodeBytes, NoFileStaysOpen) {
  const auto group = make_host_group(ranks());
  const int before = lowest_free_number();
  const NodeBytes shared = share_on_nodes(*group, rank_0s_bytes(100));
  EXPECT_EQ(lowest_free_number(), before);
}

// As if it were on another node than the others, of which the first then leads.
TEST(NodeBytes, ARankApartHasBytesOfItsOwn) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "UndefinedBehaviorSanitizer opens a pipe to look at an object, and takes one that it cannot for none";
#endif
  const auto group = make_host_group(ranks());
  share_on_nodes(*group, rank_0s_bytes(more_than_two_chunks));  // MPI has opened what it needs
  NodeBytes shared;
  {
    std::optional<Limit> no_file_more;
    if (group->rank() == 0) no_file_more.emplace(RLIMIT_NOFILE, static_cast<rlim_t>(lowest_free_number()));
    shared = share_on_nodes(*group, rank_0s_bytes(more_than_two_chunks));
  }
  expect_rank_0s(shared, more_than_two_chunks);
  const std::vector<int64_t> inodes = inodes_of(*group, shared);
  EXPECT_EQ(inodes[0], 0);
  for (size_t rank = 1; rank < inodes.size(); rank++) {
    EXPECT_NE(inodes[rank], 0);
    EXPECT_EQ(inodes[rank], inodes[1]);
  }
}

TEST(NodeBytes, WhereTheFileMayNotGrowEveryRankHasACopy) {
  const auto group = make_host_group(ranks());
  const auto action = std::signal(SIGXFSZ, SIG_IGN);  // as main does
  NodeBytes shared;
  {
    const Limit small(RLIMIT_FSIZE, 1 << 20);
    shared = share_on_nodes(*group, rank_0s_bytes(more_than_two_chunks));
  }
  std::signal(SIGXFSZ, action);
  expect_rank_0s(shared, more_than_two_chunks);
  EXPECT_EQ(inodes_of(*group, shared), std::vector<int64_t>(static_cast<size_t>(group->size()), 0));
}

TEST(NodeBytes, ADatasetOfSeveralRanksIsInNoHeap) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps memory that was freed";
#endif
  const auto group = make_host_group(ranks());
  constexpr int64_t tokens = 16 << 20, bytes = tokens * static_cast<int64_t>(sizeof(int32_t));
  const int64_t before = resident_memory().anonymous;
  Dataset data;
  if (group->rank() == 0) {
    data.tokens.own().assign(tokens, 7);
    data.starts.own().push_back(tokens);
    data.documents = 5;
  }
  exchange(data, *group);
  malloc_trim(0);
  const int64_t in_heap = group->size() == 1 ? bytes : 0;
  EXPECT_LT(resident_memory().anonymous, before + in_heap + bytes / 8);
  EXPECT_EQ(data.documents, 5);
  EXPECT_TRUE(data.labels.empty());
  ASSERT_EQ(data.samples(), 1);
  const Sample sample = data.sample(0);
  ASSERT_EQ(std::ssize(sample.tokens), tokens);
  EXPECT_TRUE(std::ranges::all_of(sample.tokens, [](int32_t id) { return id == 7; }));
}

// All ranks together have so much less, whoever holds it.
TEST(NodeBytes, AreTakenOnceOfTheMemoryThatIsFree) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps memory that was freed";
#endif
  const auto group = make_host_group(ranks());
  constexpr int64_t size = int64_t{64} << 20;
  const std::string bytes = rank_0s_bytes(size);
  const CpuBackend backend(1, false);
  const int64_t before = backend.free_memory();
  const NodeBytes shared = share_on_nodes(*group, bytes);
  group->barrier();  // nobody's part grows any more
  double taken = 0;
  for (const double of_rank : group->all_gather(static_cast<double>(before - backend.free_memory()))) taken += of_rank;
  EXPECT_NEAR(taken, size, size / 4);
}

}  // namespace
}  // namespace llama_tp
