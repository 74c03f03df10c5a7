// What ranks tell each other besides tensors, texts and lists of values, and the memory that those of a node share.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "counted_allocations.h"
#include "parallel/host_values.h"
#include "parallel/mpi_host_group.h"
#include "parallel/shared_memory.h"
#include "support/error_of.h"
#include "support/ranks.h"

namespace llama_tp {
namespace {

TEST(HostGroup, SharesTextsAndNumbersOfAnySize) {
  const auto group = make_host_group(ranks());
  EXPECT_EQ(group->size(), ranks().size());
  group->barrier();
  const auto text_of = [](int rank) {
    return std::string(static_cast<size_t>(rank * 100000), static_cast<char>('a' + rank));
  };
  for (int root = 0; root < group->size(); root++)
    EXPECT_EQ(group->broadcast(text_of(group->rank()), root), text_of(root));
  const std::vector<std::string> texts = group->all_gather(text_of(group->rank()));
  const std::vector<double> numbers = group->all_gather(0.5 + group->rank());
  for (int rank = 0; rank < group->size(); rank++) {
    EXPECT_EQ(texts.at(static_cast<size_t>(rank)), text_of(rank));
    EXPECT_EQ(numbers.at(static_cast<size_t>(rank)), 0.5 + rank);
  }
}

// Of another process that had this one's number.
TEST(SharedMemory, PassesOverNamesThatAreLeftOver) {
  MpiGroup group = MpiGroup::world();
  std::vector<std::string> left;
  for (int i = 0; i < 200; i++) {
    const std::string name = "/dev/shm/llama_tp." + std::to_string(getpid()) + "." + std::to_string(i);
    if (std::ofstream(name)) left.push_back(name);
  }
  EXPECT_EQ(left.size(), 200u);
  const SharedMemory memory(group, 100);
  *memory.part_of(group.rank()) = static_cast<char>('a' + group.rank());
  group.barrier();
  for (int rank = 0; rank < group.size(); rank++) EXPECT_EQ(*memory.part_of(rank), 'a' + rank);
  for (const std::string& name : left) EXPECT_TRUE(std::filesystem::remove(name));
}

TEST(SharedMemory, ALimitOfAFilesSizeIsNamed) {
  MpiGroup group = MpiGroup::world();
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit low{1 << 20, before.rlim_max};
  const auto action = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &low);
  const std::string error = error_of([&] { SharedMemory memory(group, 2 << 20); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, action);
  EXPECT_TRUE(holds(error, "/dev/shm: reserving", "File too large", "ulimit -f"));
}

#if defined(COUNTS_ALLOCATIONS)
// Such as a dataset: of no rank's list is there a copy.
TEST(HostGroup, SendsAListLongerThanAMessageInPlace) {
  const auto group = make_host_group(ranks());
  constexpr size_t count = (size_t{9} << 20) + 1;  // of 8 bytes
  std::vector<int64_t> values, empty{7};
  if (group->rank() == 0) {
    values.resize(count);
    std::iota(values.begin(), values.end(), 5);
    empty.clear();
  }
  group->barrier();
  const Allocations made = allocations_of([&] { broadcast_values(*group, values); });
  constexpr size_t of_mpi = size_t{1} << 20;  // requests and the like
  EXPECT_LT(made.bytes, (group->rank() == 0 ? 0 : count * sizeof(int64_t)) + of_mpi);
  ASSERT_EQ(values.size(), count);
  for (size_t i = 0; i < count; i++) ASSERT_EQ(values[i], 5 + static_cast<int64_t>(i));
  broadcast_values(*group, empty);
  EXPECT_TRUE(empty.empty());
}
#endif

TEST(HostGroup, GathersPiecesLongerThanAMessage) {
  const auto group = make_host_group(ranks());
  const size_t bytes = (size_t{65} << 20) + 3;
  const int root = group->size() - 1;
  const std::string piece(bytes, static_cast<char>('a' + group->rank()));
  std::string whole(group->rank() == root ? bytes * static_cast<size_t>(group->size()) : 0, '\0');
  std::vector<int64_t> lengths, places;
  for (int rank = 0; rank < group->size(); rank++) {
    lengths.push_back(static_cast<int64_t>(bytes));
    places.push_back(rank * static_cast<int64_t>(bytes));
  }
  group->gather(piece, lengths, places, whole, root);
  if (group->rank() != root) return;
  for (int rank = 0; rank < group->size(); rank++) {
    const std::string_view theirs = std::string_view(whole).substr(static_cast<size_t>(rank) * bytes, bytes);
    EXPECT_EQ(theirs.find_first_not_of(static_cast<char>('a' + rank)), std::string_view::npos);
  }
}

}  // namespace
}  // namespace llama_tp
