// What the CPU backend is besides its operations: its memory, its copies, its exponential.
#include "backend/cpu/cpu_backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "backend/arena.h"
#include "backend/cpu/bandwidth.h"
#include "backend/cpu/free_memory.h"
#include "backend/cpu/huge_pages.h"
#include "backend/cpu/math.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

// The claim of math.h, at points that no float of that range is far from.
TEST(CpuMath, TheExponentialIsWithinATenMillionthAndKeepsTheExtremes) {
  for (double x = -87.3; x < 88.72; x += 1.0 / 4096) {
    const float rounded = static_cast<float>(x);
    const double expected = std::exp(static_cast<double>(rounded));
    ASSERT_NEAR(fast_exp(rounded), expected, 1.1e-7 * expected) << x;
  }
  EXPECT_EQ(fast_exp(0), 1);
  EXPECT_EQ(fast_exp(-INFINITY), 0);
  EXPECT_EQ(fast_exp(-1e4f), 0);
  EXPECT_EQ(fast_exp(INFINITY), INFINITY);
  EXPECT_EQ(fast_exp(1e4f), INFINITY);
  EXPECT_TRUE(std::isnan(fast_exp(NAN)));
}

TEST(CpuMemory, PagesAreZeroAndAlignedForHugeOnes) {
  for (const int64_t bytes : {int64_t{1}, int64_t{4097}, int64_t{5} << 20}) {
    char* const memory = static_cast<char*>(take_pages(bytes));
    ASSERT_NE(memory, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % (1 << 21), 0u);
    EXPECT_EQ(memory[0], 0);
    EXPECT_EQ(memory[bytes - 1], 0);
    memory[bytes - 1] = 1;
    give_pages_back(memory, bytes);
  }
  EXPECT_EQ(take_pages(int64_t{1} << 60), nullptr);
}

TEST(CpuMemory, WhatIsGivenBackIsTheSystemsAgain) {
  constexpr int64_t bytes = int64_t{64} << 20;
  CpuBackend backend(1, false);
  const int64_t before = taken_host_memory();
  if (before == 0) GTEST_SKIP() << "the system does not say";
  {
    Ledger ledger;
    Arena arena("memory", ledger);
    arena.reserve(backend, bytes);
    std::memset(arena.push(Category::data, {bytes}, DType::u8).data, 1, bytes);
    EXPECT_GE(taken_host_memory(), before + bytes);
  }
  EXPECT_LT(taken_host_memory(), before + bytes / 2);
  backend.read_bandwidth(0.01);
  EXPECT_LT(taken_host_memory(), before + bytes / 2);
}

TEST(CpuMemory, WhatTheSystemCannotGiveIsAnErrorThatSaysSo) {
  CpuBackend backend(1, false);
  EXPECT_TRUE(
      holds(error_of([&] { backend.reserve(int64_t{1} << 60); }), "1152921504606846976 bytes", "shorter context"));
  EXPECT_THROW(CpuBackend(0, false), Error);
}

// Between a tenth and a thousand gigabytes a second, as any machine of these decades.
TEST(CpuMemory, TheReadBandwidthIsThatOfAMachine) {
  const double bandwidth = measure_read_bandwidth(1, 1);
  EXPECT_GT(bandwidth, 1e8);
  EXPECT_LT(bandwidth, 1e12);
}

// In parts of so many rows as one thread or several take.
TEST(CpuBackend, WhatIsUploadedIsDownloaded) {
  for (const Shape& shape : {Shape{1000, 301}, Shape{1, 300000}, Shape{7, 3}, Shape{0, 5}})
    for (const int threads : {1, 3}) {
      CpuBackend backend(threads, false);
      std::vector<float> sent(static_cast<size_t>(shape.elements()));
      std::iota(sent.begin(), sent.end(), 1.0f);
      std::vector<float> held(sent.size()), received(sent.size());
      const Tensor tensor{held.data(), DType::f32, shape};
      backend.upload(sent.data(), tensor);
      backend.download(tensor, received.data());
      EXPECT_EQ(held, sent) << text(shape);
      EXPECT_EQ(received, sent) << text(shape);
    }
}

TEST(CpuBackend, DescribesItselfInOneLine) {
  EXPECT_EQ(CpuBackend(1, true).description().substr(0, 14), "cpu: 1 thread,");
  EXPECT_NE(CpuBackend(2, false).description().find("in f32, oneDNN has no instructions for them here"),
            std::string::npos);
}

}  // namespace
}  // namespace llama_tp
