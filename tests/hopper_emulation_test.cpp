// Hopper's instructions on the emulated GPU: copies of tiles land at their barrier and where the swizzle puts them,
// products are those of the plain loop and are there when they are waited for, and what would be undefined is seen.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "emulation/machine.h"
#include "kernels/kernels.h"
#include "kernels/swizzled_tile.h"
#include "kernels/tiles.h"
#include "operation_fixture.h"
#include "support/error_of.h"

namespace llama_tp::kernels {
namespace {

template <class... Parameters, class... Arguments>
void run(int threads, size_t shared_bytes, void (*kernel)(Parameters...), const Arguments&... arguments) {
  launch(nullptr, "kernel", {1}, threads, shared_bytes, kernel, arguments...);
}

// Small integers, whose products are exact.
float value(int64_t i, int64_t j) { return static_cast<float>((i * 5 + j * 3) % 7 - 3); }
std::vector<bf16> matrix(int64_t rows, int64_t columns) {
  std::vector<bf16> made;
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < columns; j++) made.push_back(to_bf16(value(i, j)));
  return made;
}

// ---- copies of tiles

struct OneTile {
  SwizzledTile<16, 64> tile;
  MemoryBarrier full;
};

TEST(HopperEmulation, TilesLandAtTheWaitForTheirBarrierAndSwizzled) {
  const std::vector<bf16> from = matrix(20, 64);
  std::vector<bf16> seen(16 * 64);
  float before = 0;
  run(
      1, sizeof(OneTile),
      +[](TensorMap map, bf16* out, float* early) {
        auto& shared = shared_memory<OneTile>();
        initialize(shared.full, 1);
        fence_async_proxy();
        arrive_and_expect(shared.full, shared.tile.bytes);
        copy_rows(shared.tile, map, 10, 0, shared.full);
        *early = to_float(shared.tile.part[0][0][0]);
        wait_for(shared.full, 0);
        for (int row = 0; row < 16; row++)
          for (int column = 0; column < 64; column++)
            out[row * 64 + column] = shared.tile.part[0][row][(column / 8 ^ row % 8) * 8 + column % 8];
      },
      map_of_heads(from.data(), 1, 20, 64, 16), seen.data(), &before);
  EXPECT_TRUE(std::isnan(before));
  for (int64_t row = 0; row < 16; row++)
    for (int64_t column = 0; column < 64; column++)
      ASSERT_EQ(to_float(seen[static_cast<size_t>(row * 64 + column)]), row < 10 ? value(row + 10, column) : 0)
          << row << ", " << column;
}

// What is said of a tile that is copied while as many bytes more are expected, and waited for or not.
template <int more_bytes, bool waits>
std::string error_of_copying() {
  const std::vector<bf16> from = matrix(16, 64);
  return error_of([&] {
    run(
        1, sizeof(OneTile),
        +[](TensorMap map) {
          auto& shared = shared_memory<OneTile>();
          initialize(shared.full, 1);
          fence_async_proxy();
          arrive_and_expect(shared.full, shared.tile.bytes + more_bytes);
          copy_rows(shared.tile, map, 0, 0, shared.full);
          if (waits) wait_for(shared.full, 0);
        },
        map_of_heads(from.data(), 1, 16, 64, 16));
  });
}

TEST(HopperEmulation, ATileThatNobodyWaitsForIsAnError) {
  const std::string error = error_of_copying<0, false>();
  EXPECT_NE(error.find("ended while 1 tiles were on their way"), std::string::npos) << error;
}

TEST(HopperEmulation, BytesThatNeverComeAreReportedWithThePlace) {
  const std::string error = error_of_copying<16, true>();
  EXPECT_NE(error.find("wait for ever; thread 0 at mbarrier wait, tests/hopper_emulation_test.cpp:"), std::string::npos)
      << error;
}

TEST(HopperEmulation, PhasesOfABarrierFollowEachOther) {
  std::vector<int> seen(64);
  run(
      64, sizeof(MemoryBarrier),
      +[](int* out) {
        auto& barrier = shared_memory<MemoryBarrier>();
        if (threadIdx.x == 0) initialize(barrier, 32);
        __syncthreads();
        // One warp writes, the other reads behind it, in turn.
        for (uint32_t phase = 0; phase < 4; phase++) {
          if (threadIdx.x < 32) {
            out[threadIdx.x] = static_cast<int>(phase);
            arrive(barrier);
          } else {
            wait_for(barrier, phase % 2);
            out[threadIdx.x] += out[threadIdx.x - 32];
          }
          __syncthreads();
        }
      },
      seen.data());
  for (size_t i = 0; i < 32; i++) EXPECT_EQ(seen[32 + i], 0 + 1 + 2 + 3);
}

TEST(HopperEmulation, WhatABarrierOrATileCannotBeIsRefused) {
  const auto error = [](void (*kernel)()) { return error_of([&] { run(1, sizeof(OneTile), kernel); }); };
  EXPECT_NE(error(+[] { arrive(shared_memory<OneTile>().full); }).find("before it is initialized"), std::string::npos);
  EXPECT_NE(error(+[] {
              auto& full = shared_memory<OneTile>().full;
              initialize(full, 1);
              arrive_and_expect(full, 16);
              arrive(full);
            }).find("more arrivals"),
            std::string::npos);
  const std::vector<bf16> from = matrix(16, 64);
  EXPECT_NE(error_of([&] { map_of_heads(from.data() + 1, 1, 15, 64, 16); }).find("16 bytes"), std::string::npos);
  EXPECT_NE(error_of([&] { map_of_heads(from.data(), 1, 16, 60, 16); }).find("a stride of 120"), std::string::npos);
  EXPECT_NE(error_of([&] { map_of_heads(from.data(), 1, 16, 64, 512); }).find("a box of 512"), std::string::npos);
  EXPECT_NE(error_of([&] {
              run(
                  1, sizeof(OneTile),
                  +[](TensorMap map) {
                    auto& shared = shared_memory<OneTile>();
                    initialize(shared.full, 1);
                    arrive_and_expect(shared.full, shared.tile.bytes);
                    copy_rows(shared.tile, map, 0, 0, shared.full);
                  },
                  map_of_heads(from.data(), 1, 16, 64, 16));
            }).find("no fence has made visible"),
            std::string::npos);
}

// ---- products

// scores = a · bᵀ and sums = round(scores) · c, with everything that a kernel can forget.
enum class Forget { nothing, commit, wait, product_fence, proxy_fence };

struct Factors {
  SwizzledTile<64, 128> a;
  SwizzledTile<128, 128> b, c;
  MemoryBarrier full;
};

__global__ void products_kernel(TensorMap a, TensorMap b, TensorMap c, Forget forget, int stride_bytes, float* scores,
                                float* sums) {
  auto& shared = shared_memory<Factors>();
  if (threadIdx.x == 0) {
    initialize(shared.full, 1);
    fence_async_proxy();
    arrive_and_expect(shared.full, shared.a.bytes + shared.b.bytes + shared.c.bytes);
    copy_rows(shared.a, a, 0, 0, shared.full);
    copy_rows(shared.b, b, 0, 0, shared.full);
    copy_rows(shared.c, c, 0, 0, shared.full);
  }
  __syncthreads();
  wait_for(shared.full, 0);
  if (threadIdx.x < 8) {  // the last row of c anew, by the usual way of writing
    store_bytes16(&shared.c.part[0][127][threadIdx.x * 8], Bytes16{});
    store_bytes16(&shared.c.part[1][127][threadIdx.x * 8], Bytes16{});
    if (forget != Forget::proxy_fence) fence_async_proxy();
  }
  __syncthreads();

  Sums<128> d, e;
  set_zero(d);
  set_zero(e);
  if (forget != Forget::product_fence) fence_products(d);
  for (int k = 0; k < 128; k += 16) {
    const auto start = static_cast<uint32_t>(k / 64 * shared.b.part_bytes + k % 64 * 2);
    multiply_rows(d, describe_columns(shared.a, k), descriptor(shared_address(&shared.b) + start, 0, stride_bytes),
                  k > 0);
  }
  if (forget != Forget::commit) commit_products();
  if (forget != Forget::wait) wait_for_products<0>(d);
  uint32_t p[8][4];
  for (int i = 0; i < 8; i++)
    for (int j = 0; j < 4; j++) p[i][j] = pair_of(d[2 * i + j / 2][j % 2 * 2], d[2 * i + j / 2][j % 2 * 2 + 1]);
  fence_products(e, p);
  for (int i = 0; i < 8; i++) add_product(e, p[i], describe_rows(shared.c, i * 16));
  commit_products();
  wait_for_products<0>(e);
  for (int j = 0; j < 16; j++)
    for (int i = 0; i < 4; i++) {
      const int row = warp_of_block() * 16 + lane_of_warp() / 4 + i / 2 * 8,
                column = 8 * j + lane_of_warp() % 4 * 2 + i % 2;
      scores[row * 128 + column] = d[j][i];
      sums[row * 128 + column] = e[j][i];
    }
}

struct Products {
  std::vector<float> scores = std::vector<float>(64 * 128), sums = scores;

  explicit Products(Forget forget, int stride_bytes = eight_rows_bytes) {
    const std::vector<bf16> rows = matrix(128, 128);
    const auto map = [&](int box) { return map_of_heads(rows.data(), 1, 128, 128, box); };
    run(128, sizeof(Factors), products_kernel, map(64), map(128), map(128), forget, stride_bytes, scores.data(),
        sums.data());
  }
  // Elements of each that the plain loops have, too. Sums of integers below 2^24 are exact.
  std::pair<int, int> right() const {
    std::pair<int, int> count{0, 0};
    for (int64_t i = 0; i < 64; i++) {
      std::vector<float> row(128);
      for (int64_t j = 0; j < 128; j++) {
        for (int64_t k = 0; k < 128; k++) row[static_cast<size_t>(j)] += value(i, k) * value(j, k);
        count.first += scores[static_cast<size_t>(i * 128 + j)] == row[static_cast<size_t>(j)];
        row[static_cast<size_t>(j)] = to_float(to_bf16(row[static_cast<size_t>(j)]));
      }
      for (int64_t d = 0; d < 128; d++) {
        float sum = 0;
        for (int64_t j = 0; j < 127; j++) sum += row[static_cast<size_t>(j)] * value(j, d);
        count.second += sums[static_cast<size_t>(i * 128 + d)] == sum;
      }
    }
    return count;
  }
};

TEST(HopperEmulation, ProductsOfAWarpgroupAreThoseOfThePlainLoops) {
  const auto [scores, sums] = Products(Forget::nothing).right();
  EXPECT_EQ(scores, 64 * 128);
  EXPECT_EQ(sums, 64 * 128);
}

TEST(HopperEmulation, AWrongDescriptorOrSwizzleGivesOtherProducts) {
  EXPECT_LT(Products(Forget::nothing, 2 * eight_rows_bytes).right().first, 64 * 128 / 2);
  emulation::leave_out_swizzle(true);
  const Products unswizzled(Forget::nothing);
  emulation::leave_out_swizzle(false);
  EXPECT_LT(unswizzled.right().first, 64 * 128 / 2);
}

TEST(HopperEmulation, WhatAProductNeedsIsMissedWhereItIsForgotten) {
  for (const Forget forget : {Forget::commit, Forget::wait}) {
    const Products products(forget);
    for (const float score : products.sums) ASSERT_TRUE(std::isnan(score)) << static_cast<int>(forget);
  }
  const Products unfenced(Forget::proxy_fence);
  EXPECT_EQ(unfenced.right().first, 64 * 128);
  for (const float sum : unfenced.sums) ASSERT_TRUE(std::isnan(sum)) << "c's last row is not visible";
  const std::string error = error_of([] { Products products(Forget::product_fence); });
  EXPECT_NE(error.find("no wgmma.fence"), std::string::npos) << error;
}

// ---- attention

// Values that differ from key to key, so that a tile in the wrong place changes the result.
class HopperAttention : public ::testing::Test {
 protected:
  void TearDown() override {
    emulation::be_hopper(false);
    emulation::go_on_in(emulation::Order::in_turn);
  }

  static constexpr int64_t tokens = 300, dim = 64;
  const std::vector<bf16> values = matrix(tokens, dim);
  const std::vector<int32_t> ranges{0, tokens, 0, tokens};
  const AttentionShape shape{1, 1, dim, tokens, tokens, ranges.data(), 1, tokens, tokens};
  const AttentionOptions options{0.02f, 0};
  const AttentionInputs<bf16> inputs{values.data(), values.data(), values.data()};

  std::vector<bf16> attend(std::vector<float>* lse = nullptr,
                           decltype(attention_forward_hopper)* start = attention_forward_hopper) const {
    std::vector<bf16> out(tokens * dim);
    start(nullptr, inputs, shape, options, out.data(), lse == nullptr ? nullptr : lse->data());
    return out;
  }

  // dq, dk and dv, one behind the other, of what attend() has made.
  std::vector<bf16> differentiate(const std::vector<bf16>& out, const std::vector<float>& lse,
                                  decltype(attention_backward_hopper)* start = attention_backward_hopper) const {
    std::vector<bf16> gradients(3 * tokens * dim);
    std::vector<float> delta(tokens);
    bf16* const dq = gradients.data();
    start(nullptr, inputs, {values.data(), out.data(), lse.data()}, shape, options,
          {dq, dq + tokens * dim, dq + 2 * tokens * dim}, delta.data());
    return gradients;
  }
};

// The name of the kernel that misses its waits.
template <class Run>
std::string error_without_waits(const Run& run) {
  emulation::leave_out_waits(true);
  const std::string error = error_of(run);
  emulation::leave_out_waits(false);
  return error;
}

TEST_F(HopperAttention, IsChosenOnAGpuThatHasIt) {
  Device device(1);
  const Owned q({1, tokens, dim}, DType::bf16), out({tokens, dim}, DType::bf16), lse({1, tokens}, DType::f32);
  const Owned dq = q, dk = q, dv = q, range({1, 4}, DType::i32, [](int64_t i) { return i % 2 * tokens; });
  const Sequences sequences{range, 1, tokens, tokens};
  emulation::be_hopper(true);
  const std::string forward =
      error_without_waits([&] { device->attention_forward(q, q, q, sequences, options, out, lse); });
  const std::string backward =
      error_without_waits([&] { device->attention_backward(out, q, q, q, out, lse, sequences, options, dq, dk, dv); });
  EXPECT_NE(forward.find("attention_forward_hopper: block"), std::string::npos) << forward;
  EXPECT_NE(backward.find("attention_backward_hopper: block"), std::string::npos) << backward;
}

double largest_difference(const std::vector<bf16>& a, const std::vector<bf16>& b) {
  double apart = 0;
  for (size_t i = 0; i < a.size(); i++)
    apart = std::max(apart, std::fabs(static_cast<double>(to_float(a[i]) - to_float(b[i]))));
  return apart;
}

TEST_F(HopperAttention, AgreesWithTheOtherKernelAndNeedsItsSwizzle) {
  const std::vector<bf16> here = attend();
  emulation::leave_out_swizzle(true);
  const std::vector<bf16> unswizzled = attend();
  emulation::leave_out_swizzle(false);
  const std::vector<bf16> there = attend(nullptr, attention_forward_tiles);
  // Means of values up to 3: probabilities and results are rounded to bf16 (2^-9) once each in both.
  EXPECT_LE(largest_difference(here, there), 4 * 3 * 0x1p-9);
  EXPECT_GT(largest_difference(unswizzled, there), 0.5);
}

TEST_F(HopperAttention, ThreadsMayComeLate) {
  std::vector<float> lse(tokens);
  const std::vector<bf16> out = attend(&lse), gradients = differentiate(out, lse);
  for (const emulation::Order order : {emulation::Order::first, emulation::Order::last}) {
    emulation::go_on_in(order);
    EXPECT_EQ(largest_difference(attend(), out), 0);
    EXPECT_EQ(largest_difference(differentiate(out, lse), gradients), 0);
  }
}

TEST_F(HopperAttention, BackwardAgreesWithTheOtherKernelAndNeedsItsSwizzle) {
  std::vector<float> lse(tokens);
  const std::vector<bf16> out = attend(&lse), here = differentiate(out, lse);
  emulation::leave_out_swizzle(true);
  const std::vector<bf16> unswizzled = differentiate(out, lse);
  emulation::leave_out_swizzle(false);
  const std::vector<bf16> there = differentiate(out, lse, attention_backward_tiles);
  double largest = 0;
  for (const bf16 gradient : there) largest = std::max(largest, std::fabs(static_cast<double>(to_float(gradient))));
  // Both round the same factors to bf16 and add in f32, in another order: what is left is a result's last bit.
  EXPECT_LE(largest_difference(here, there), largest * 0x1p-7);
  EXPECT_GT(largest_difference(unswizzled, there), largest / 4);
}

}  // namespace
}  // namespace llama_tp::kernels
