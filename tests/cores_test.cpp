// Processors as Linux lists them, and how the ranks of a node divide them.
#include "parallel/cores.h"

#include <gtest/gtest.h>

#include "base/error.h"

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

}  // namespace
}  // namespace llama_tp
