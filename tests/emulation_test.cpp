// The emulated GPU itself: what would be undefined on a GPU must be seen, and its matrices must be those of the PTX
// manual. Kernels here are written for one purpose each.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "emulation/machine.h"
#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "kernels/reduce.h"
#include "kernels/tiles.h"
#include "kernels/vector.h"
#include "support/error_of.h"

namespace llama_tp::kernels {
namespace {

template <class... Parameters, class... Arguments>
void run(int threads, size_t shared_bytes, void (*kernel)(Parameters...), const Arguments&... arguments) {
  launch(nullptr, "kernel", {1}, threads, shared_bytes, kernel, arguments...);
}

TEST(Emulation, SharedMemoryStartsAsNotANumberInEveryBlock) {
  std::vector<float> seen(2);
  launch(
      nullptr, "kernel", {2}, 1, sizeof(float),
      +[](float* out) {
        out[blockIdx.x] = shared_memory<float>();
        shared_memory<float>() = 1;
      },
      seen.data());
  EXPECT_TRUE(std::isnan(seen[0]) && std::isnan(seen[1]));
}

TEST(Emulation, ABarrierWaitsForThreadsThatHaveNotEnded) {
  std::vector<int> seen(64);
  run(
      64, sizeof(int) * 64,
      +[](int* out) {
        auto& values = shared_memory<int[64]>();
        const auto i = threadIdx.x;
        if (i >= 50) return;
        values[i] = static_cast<int>(i);
        __syncthreads();
        out[i] = values[49 - i];
      },
      seen.data());
  for (int i = 0; i < 50; i++) EXPECT_EQ(seen[static_cast<size_t>(i)], 49 - i);
}

TEST(Emulation, ThreadsThatWaitForEverAreReportedWithThePlace) {
  const std::string alone = error_of([] {
    run(
        64, 0, +[] {
          if (threadIdx.x < 32)
            __syncthreads();
          else
            lanes_where(threadIdx.x == 40 || exchange(1.0f, 1) > 0);  // lane 8 is at another instruction than its warp
        });
  });
  EXPECT_NE(alone.find("kernel: block 0, 0, 0: "), std::string::npos) << alone;
  EXPECT_NE(alone.find("wait for ever; thread 0 at __syncthreads, tests/emulation_test.cpp:"), std::string::npos)
      << alone;
  const std::string apart = error_of([] {
    run(
        64, 0, +[] {
          if (threadIdx.x < 32)
            __syncthreads();
          else
            __syncthreads();
        });
  });
  EXPECT_NE(apart.find("wait at different barriers"), std::string::npos) << apart;
}

TEST(Emulation, AThreadOfAnEarlyGridThatDoesNotWaitForThoseAheadIsReported) {
  const auto start_early = [](void (*kernel)()) { launch_early(nullptr, "kernel", {1}, 64, 0, kernel); };
  start_early(+[] { begin_behind_grids_ahead(); });
  EXPECT_NE(error_of([&] {
              start_early(+[] {
                if (threadIdx.x == 40) return;
                wait_for_grids_ahead();
              });
            }).find("thread 40 ends without having waited for the grids ahead"),
            std::string::npos);
}

TEST(Emulation, MisalignedAndMisplacedAccessesAreReported) {
  std::vector<float> memory(16);
  EXPECT_NE(error_of([&] {
              run(
                  1, 0, +[](float* at) { store_bytes16(at + 1, {}); }, memory.data());
            }).find("16 bytes"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              run(
                  1, 16, +[](float* at) { copy_async(at, at, true); }, memory.data());
            }).find("outside shared memory"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              run(
                  1, 16, +[] { shared_memory<float[8]>()[0] = 0; });
            }).find("lays out 32 bytes"),
            std::string::npos);
}

TEST(Emulation, ALaneThatHasEndedGivesNoNumber) {
  std::vector<float> seen(32);
  run(
      32, 0,
      +[](float* out) {
        if (threadIdx.x == 5) return;
        out[threadIdx.x] = exchange(static_cast<float>(threadIdx.x), 1);
      },
      seen.data());
  EXPECT_TRUE(std::isnan(seen[4]));
  EXPECT_EQ(seen[6], 7);
}

TEST(Emulation, AsynchronousCopiesLandAtTheirWaitGroupByGroup) {
  alignas(16) const float from[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<float> seen(6);
  run(
      1, 48,
      +[](const float* source, float* out) {
        auto& to = shared_memory<float[12]>();
        copy_async(to, source, true);
        commit_copies();
        copy_async(to + 4, source + 4, true);
        copy_async(to + 8, nullptr, false);
        commit_copies();
        out[0] = to[0];
        wait_for_copies<1>();
        out[1] = to[0];
        out[2] = to[4];
        wait_for_copies<0>();
        out[3] = to[7];
        out[4] = to[8];
      },
      &from[0], seen.data());
  EXPECT_TRUE(std::isnan(seen[0]) && std::isnan(seen[2])) << "before their waits";
  EXPECT_EQ(seen[1], 1);
  EXPECT_EQ(seen[3], 8);
  EXPECT_EQ(seen[4], 0);
}

// Products of small integers are exact, so that every element must be that of the plain loop.
TEST(Emulation, TilesAreMultipliedAsMatrices) {
  using Left = Tile<16, 32>;
  struct Tiles {
    Left left;
    Tile<48, 32> right;
    Tile<16, 48> result;
  };
  const auto value = [](int64_t i, int64_t j) { return static_cast<float>((i * 5 + j * 3) % 7 - 3); };
  std::vector<bf16> left(16 * 32), right(48 * 32), result(16 * 48);
  for (int64_t i = 0; i < 48; i++)
    for (int64_t k = 0; k < 32; k++) {
      if (i < 16) left[static_cast<size_t>(i * 32 + k)] = to_bf16(value(i, k));
      right[static_cast<size_t>(i * 32 + k)] = to_bf16(value(k, i));
    }
  run(
      32, sizeof(Tiles),
      +[](const bf16* a, const bf16* b, bf16* out) {
        auto& tiles = shared_memory<Tiles>();
        load_async(tiles.left, a, 32, 16);
        load_async(tiles.right, b, 32, 48);
        commit_copies();
        wait_for_copies<0>();
        __syncthreads();
        Sums<48> sums;
        product_of_rows(sums, tiles.left, 0, tiles.right);
        store_rows(sums, tiles.result, 0, out, 48, 16);
      },
      left.data(), right.data(), result.data());
  for (int64_t i = 0; i < 16; i++)
    for (int64_t j = 0; j < 48; j++) {
      float sum = 0;
      for (int64_t k = 0; k < 32; k++) sum += value(i, k) * value(k, j);
      ASSERT_EQ(to_float(result[static_cast<size_t>(i * 48 + j)]), to_float(to_bf16(sum))) << i << ", " << j;
    }
}

TEST(Emulation, AReductionIsTheButterflyOfShuffles) {
  std::vector<float> once(64), stepwise(64);
  run(
      32, 0,
      +[](float* a, float* b) {
        const float value = 1.0f / static_cast<float>(3 + threadIdx.x);
        a[threadIdx.x] = warp_sum(value);
        a[threadIdx.x + 32] = warp_sum<8>(value);
        float sum = value;
        for (int mask = 16; mask > 0; mask /= 2) sum += exchange(sum, mask);
        b[threadIdx.x] = sum;
        float of_eight = value;
        for (int mask = 4; mask > 0; mask /= 2) of_eight += exchange(of_eight, mask);
        b[threadIdx.x + 32] = of_eight;
      },
      once.data(), stepwise.data());
  EXPECT_EQ(once, stepwise);
}

TEST(Emulation, AGridOfMoreBlocksThanCudaHasIsRefused) {
  EXPECT_EQ(grid_of("k", 2147483647, 65535, 65535).z, 65535u);
  for (const auto& blocks : {std::array<int64_t, 3>{2147483648, 1, 1}, {1, 65536, 1}, {1, 1, 65536}})
    EXPECT_NE(error_of([&] { grid_of("k", blocks[0], blocks[1], blocks[2]); }).find("cuda: k: a grid of "),
              std::string::npos);
}

// The most tokens of a forward, in one sequence or in very many.
TEST(Emulation, TilesOfALongContextFitAGrid) {
  constexpr int64_t tokens = int64_t{1} << 22;
  for (const int64_t sequences : {int64_t{1}, tokens / 2})
    for (const int rows : {64, 128}) {
      const AttentionShape shape{128, 8, 128, tokens, tokens, nullptr, sequences, tokens, tokens};
      const int64_t places = tokens / rows + sequences;
      for (const dim3 grid : {grid_of_tiles<Side::queries>(shape, rows), grid_of_tiles<Side::keys>(shape, rows)}) {
        EXPECT_GE(int64_t{grid.y} * grid.z, places);
        EXPECT_LT(int64_t{grid.y} * grid.z, places + grid.z);
      }
    }
}

// Each tile of a grid of places on y and z comes once, and whatever else there is has none.
TEST(Emulation, TilesOfVeryManySequencesComeOnceEach) {
  constexpr int64_t many = 2 * 65535 + 1;
  std::vector<int32_t> ranges, seen(many), none(1);
  for (int32_t s = 0; s < many; s++) ranges.insert(ranges.end(), {s, 1, s, 1});
  const AttentionShape shape{1, 1, 64, many, many, ranges.data(), many, 1, 1};
  const dim3 grid = grid_of_tiles<Side::queries>(shape, 64);
  EXPECT_EQ(grid.z, 3u);
  launch(
      nullptr, "kernel", grid, warp_size, 0,
      +[](AttentionShape of, int32_t* times, int32_t* without) {
        const auto [sequence, first] = held_tile<Side::queries>(of, 64);
        if (lane_of_warp() > 0) return;
        if (first < sequence.queries)
          times[sequence.first_query]++;
        else
          without[0]++;
      },
      shape, seen.data(), none.data());
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), many);
  EXPECT_EQ(none[0], int64_t{grid.y} * grid.z - many);
}

// Sequences of one token, whose attention is its own value.
template <class X, class Forward>
void attend_to_many_sequences(int64_t dim, const Forward& forward, bool backward) {
  constexpr int64_t many = 65535 + 2;
  std::vector<int32_t> ranges;
  for (int32_t s = 0; s < many; s++) ranges.insert(ranges.end(), {s, 1, s, 1});
  std::vector<X> v, out(static_cast<size_t>(many * dim)), dq(out), dk(out), dv(out);
  for (int64_t i = 0; i < many * dim; i++) v.push_back(rounded<X>(static_cast<float>(i / dim % 251)));
  const std::vector<X> zero(v.size(), rounded<X>(0));  // all scores are 0
  std::vector<float> lse(many), delta(many);
  const AttentionShape shape{1, 1, dim, many, many, ranges.data(), many, 1, 1};
  const AttentionInputs<X> inputs{zero.data(), zero.data(), v.data()};
  forward(nullptr, inputs, shape, AttentionOptions{0.1f, 0}, out.data(), lse.data(), nullptr);
  const size_t bytes = v.size() * sizeof(X);
  EXPECT_EQ(std::memcmp(out.data(), v.data(), bytes), 0);
  if (!backward) return;
  attention_backward_rows<X>(nullptr, inputs, {v.data(), out.data(), lse.data()}, shape, {0.1f, 0},
                             {dq.data(), dk.data(), dv.data()}, delta.data());
  EXPECT_EQ(std::memcmp(dv.data(), v.data(), bytes), 0);
}

TEST(Emulation, MoreSequencesThanAGridHasRoomForHaveSeveral) {
  attend_to_many_sequences<float>(8, attention_forward_rows<float>, true);
  attend_to_many_sequences<bf16>(64, attention_forward_few_queries, false);
}

TEST(Emulation, AttentionRefusesScalesAndHeadsThatAKernelDoesNotKnow) {
  const auto shape_of_heads = [](int64_t head_dim) { return AttentionShape{1, 1, head_dim, 0, 0, nullptr, 0, 0, 0}; };
  const AttentionShape wide = shape_of_heads(64), other = shape_of_heads(48);
  const auto expect_refusals = [&](const auto& kernel, auto... workspace) {
    const auto refusal = [&](const AttentionShape& shape, float scale) {
      return error_of([&] {
        kernel(nullptr, AttentionInputs<bf16>{}, shape, {scale, 0}, nullptr, nullptr, workspace...);
      });
    };
    EXPECT_TRUE(holds(refusal(wide, 0), "attention: a scale of 0; it must be positive"));
    return refusal(other, 1);
  };
  EXPECT_TRUE(holds(expect_refusals(attention_forward_hopper), "heads of 48 on Hopper; 64 and 128 have them"));
  EXPECT_TRUE(holds(expect_refusals(attention_forward_tiles), "no tiles for heads of 48; 16, 32,"));
  EXPECT_TRUE(holds(expect_refusals(attention_forward_few_queries, nullptr), "heads of 48", "64 and 128 are known"));
}

// What the tests of attention rest on: a kernel that forgot a wait would give no numbers.
TEST(Emulation, AttentionNeedsItsWaits) {
  constexpr int64_t tokens = 100, dim = 80;
  const std::vector<bf16> values(tokens * dim, to_bf16(0.5f));
  const std::vector<int32_t> ranges{0, tokens, 0, tokens};
  const AttentionShape shape{1, 1, dim, tokens, tokens, ranges.data(), 1, tokens, tokens};
  std::vector<bf16> out(tokens * dim);
  const auto attend = [&] {
    attention_forward_tiles(nullptr, {values.data(), values.data(), values.data()}, shape, {0.1f, 0}, out.data(),
                            nullptr);
  };
  attend();
  for (const bf16 value : out) ASSERT_EQ(to_float(value), 0.5f);
  emulation::leave_out_waits(true);
  attend();
  emulation::leave_out_waits(false);
  for (const bf16 value : out) ASSERT_TRUE(std::isnan(to_float(value)));
}

}  // namespace
}  // namespace llama_tp::kernels
