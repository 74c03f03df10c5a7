// The record of accesses: what is known of a request must be what is counted. Kernels here are written for one purpose
// each; attention's own may not have bank conflicts.
#include <gtest/gtest.h>

#include "accesses/record.h"
#include "emulation/device_memory.h"
#include "kernel_runs.h"
#include "kernels/tiles.h"

namespace llama_tp::kernels {
namespace {

using accesses::Tally;

// All accesses of one kind of what runs.
template <class Run>
Tally tally_of(bool shared, bool writes, const Run& run) {
  accesses::clear();
  run();
  Tally sum;
  for (const auto& [site, tally] : accesses::sites()) {
    if (site.shared != shared || site.writes != writes) continue;
    sum.requests += tally.requests, sum.needed += tally.needed, sum.least += tally.least;
    sum.bytes += tally.bytes, sum.in_pieces_of_16 += tally.in_pieces_of_16;
  }
  return sum;
}

// By one warp, of a matrix of 32 columns in device or shared memory.
template <class... Parameters, class... Arguments>
void run_warp(void (*kernel)(Parameters...), const Arguments&... arguments) {
  launch(nullptr, "kernel", {1}, 32, sizeof(float[32][36]), kernel, arguments...);
}

class Accesses : public testing::Test {
  emulation::DeviceAccess access_;
};

void expect(const Tally& tally, int64_t requests, int64_t needed, int64_t least, int64_t bytes) {
  EXPECT_EQ(tally.requests, requests);
  EXPECT_EQ(tally.needed, needed);
  EXPECT_EQ(tally.least, least);
  EXPECT_EQ(tally.bytes, bytes);
}

TEST_F(Accesses, ARowOfFloatsIsFourSectorsAndAColumnThirtyTwo) {
  const auto x = values<float>(32 * 32);
  auto y = values<float>(32);
  const auto row = [&] {
    run_warp(
        +[](const float* from, float* to) { to[threadIdx.x] = from[threadIdx.x]; }, x.data(), y.data());
  };
  const auto column = [&] {
    run_warp(
        +[](const float* from, float* to) { to[threadIdx.x] = from[threadIdx.x * 32]; }, x.data(), y.data());
  };
  expect(tally_of(false, false, row), 1, 4, 4, 128);
  expect(tally_of(false, true, row), 1, 4, 4, 128);
  expect(tally_of(false, false, column), 1, 32, 4, 128);
}

TEST_F(Accesses, OneFloatForAllLanesIsOneSectorOfWhichFourBytesAreUsed) {
  const auto x = values<float>(1);
  auto y = values<float>(32);
  expect(tally_of(false, false,
                  [&] {
                    run_warp(
                        +[](const float* from, float* to) { to[threadIdx.x] = *from; }, x.data(), y.data());
                  }),
         1, 1, 1, 4);
}

TEST_F(Accesses, SixteenBytesALaneAreOneAccess) {
  const auto x = values<float>(128);
  auto y = values<float>(128);
  const auto copy = [&] {
    run_warp(
        +[](const float* from, float* to) {
          Bytes16 four = load_bytes16(from + threadIdx.x * 4);
          for (uint32_t& word : four.words) word ^= 1;
          store_bytes16(to + threadIdx.x * 4, four);
        },
        x.data(), y.data());
  };
  for (const bool writes : {false, true}) {
    const Tally tally = tally_of(false, writes, copy);
    expect(tally, 1, 16, 16, 512);
    EXPECT_EQ(tally.in_pieces_of_16, 512);
  }
}

// A loop's rounds are requests of their own.
TEST_F(Accesses, RowsOfATileAreFreeOfConflictsAndColumnsWaitForEachOther) {
  EXPECT_EQ(tally_of(true, true,
                     [] {
                       run_warp(+[] {
                         for (auto& row : shared_memory<float[32][32]>()) row[threadIdx.x] = 1;
                       });
                     })
                .needed,
            32);
  expect(tally_of(true, true, [] { run_warp(+[] { shared_memory<float[32][32]>()[threadIdx.x][3] = 1; }); }), 1, 32, 1,
         128);
  expect(tally_of(true, true, [] { run_warp(+[] { shared_memory<float[32][33]>()[threadIdx.x][3] = 1; }); }), 1, 1, 1,
         128);
}

// Four wavefronts, of eight lanes each.
TEST_F(Accesses, PiecesOfSixteenBytesLieInOneRowOfBanksOrConflict) {
  expect(
      tally_of(true, true, [] { run_warp(+[] { store_bytes16(&shared_memory<float[32][4]>()[threadIdx.x], {}); }); }),
      1, 4, 4, 512);
  expect(
      tally_of(true, true, [] { run_warp(+[] { store_bytes16(&shared_memory<float[32][32]>()[threadIdx.x], {}); }); }),
      1, 32, 4, 512);
  expect(
      tally_of(true, true, [] { run_warp(+[] { store_bytes16(&shared_memory<float[32][36]>()[threadIdx.x], {}); }); }),
      1, 4, 4, 512);
}

// All banks have as many words, but not those of eight lanes.
TEST_F(Accesses, LanesOfDifferentQuartersDoNotHelpEachOther) {
  const auto store = [] {
    run_warp(+[] { store_bytes16(&shared_memory<float[8][32]>()[threadIdx.x % 8][threadIdx.x / 8 * 4], {}); });
  };
  expect(tally_of(true, true, store), 1, 32, 4, 512);
}

TEST_F(Accesses, MatricesWhoseRowsShareBanksConflict) {
  const auto load = +[] {
    uint32_t a[4];
    load_matrices(a, shared_memory<bf16[32][64]>()[threadIdx.x]);  // rows of 128 bytes: all in the same banks
  };
  expect(tally_of(true, false, [&] { run_warp(load); }), 1, 32, 4, 512);
  expect(tally_of(true, false,
                  [] {
                    run_warp(+[] {
                      uint32_t a[4];
                      load_left(a, shared_memory<Tile<16, 64>>(), 0, 16);
                    });
                  }),
         1, 4, 4, 512);
}

// cp.async reads here and writes there.
TEST_F(Accesses, CopiesInTheBackgroundAreAccessesOfBothSides) {
  const auto x = values<float>(128);
  const auto copy = [&] {
    run_warp(
        +[](const float* from) {
          copy_async(&shared_memory<float[32][4]>()[threadIdx.x], from + threadIdx.x * 4, true);
        },
        x.data());
  };
  expect(tally_of(false, false, copy), 1, 16, 16, 512);
  expect(tally_of(true, true, copy), 1, 4, 4, 512);
}

TEST_F(Accesses, AttentionsTilesHaveNoBankConflicts) {
  for (const int64_t head_dim : {64, 128})
    for (const bool writes : {false, true}) {
      AttentionRun<bf16> attention({2, 1, head_dim, 128, 128, {0, 128, 0, 128}});
      const Tally tally = tally_of(true, writes, [&] { attention.forward_tiles(); });
      EXPECT_GT(tally.requests, 0);
      EXPECT_EQ(tally.needed, tally.least) << (writes ? "written, heads of " : "read, heads of ") << head_dim;
    }
}

}  // namespace
}  // namespace llama_tp::kernels
