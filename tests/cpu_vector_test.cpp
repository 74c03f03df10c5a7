// The lanes that the element-wise kernels are made of, against one element at a time.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "backend/cpu/vector.h"

namespace llama_tp {
namespace {

constexpr int longest = 9 * lanes + 3;  // every branch: four vectors at once, single ones, a part

TEST(Vector, RowsOfAnyLengthAreReadAndWrittenWholeAndNothingBehindThem) {
  for (int n = 0; n <= longest; n++) {
    std::vector<float> f(longest + 1, -1), from(static_cast<size_t>(n));  // exact, so that a sanitizer sees overruns
    std::vector<bf16> h(longest + 1, to_bf16(-1));
    for (int i = 0; i < n; i++) from[static_cast<size_t>(i)] = static_cast<float>(i);
    each_lanes(n, [&](auto i) {
      store(f.data(), i, load(from.data(), i) + 1.0f);
      store(h.data(), i, load(from.data(), i) + 1.0f);
    });
    for (int i = 0; i <= longest; i++) {
      const float expected = i < n ? static_cast<float>(i + 1) : -1;
      ASSERT_EQ(f[static_cast<size_t>(i)], expected);
      ASSERT_EQ(to_float(h[static_cast<size_t>(i)]), expected);  // below 256 a bf16 holds every integer
    }
  }
}

TEST(Vector, SumAndMaximumCountEachElementOnce) {
  for (int n = 0; n <= longest; n++) {
    std::vector<float> x(static_cast<size_t>(n));
    for (int i = 0; i < n; i++) x[static_cast<size_t>(i)] = static_cast<float>(-1 - (i * 37) % 101);
    float total = 0, maximum = -HUGE_VALF;
    for (const float value : x) {
      total += value + 2;  // small integers: exact in any order; + 2 would betray lanes that do not exist
      maximum = std::max(maximum, value);
    }
    ASSERT_EQ(sum_of(n, [&](auto i) { return load(x.data(), i) + 2.0f; }), total);
    ASSERT_EQ(largest_of(n, [&](auto i) { return load(x.data(), i); }), maximum);
  }
}

TEST(Vector, Bf16IsReadExactlyAndRoundedLikeOneElement) {
  std::vector<float> values;
  for (uint32_t high = 0; high < 0x10000; high++)
    for (const uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})  // ties and both sides of them
      values.push_back(std::bit_cast<float>((high << 16) + low));
  std::vector<bf16> rounded(values.size());
  std::vector<float> again(values.size());
  each_lanes(static_cast<int64_t>(values.size()), [&](auto i) {
    store(rounded.data(), i, load(values.data(), i));
    store(again.data(), i, load(rounded.data(), i));
  });
  for (size_t i = 0; i < values.size(); i++) {
    if (std::fpclassify(values[i]) == FP_SUBNORMAL) continue;  // 0 where the processor rounds by itself
    ASSERT_EQ(std::isnan(to_float(rounded[i])), std::isnan(values[i])) << std::bit_cast<uint32_t>(values[i]);
    if (!std::isnan(values[i])) {
      ASSERT_EQ(rounded[i].bits, to_bf16(values[i]).bits) << std::bit_cast<uint32_t>(values[i]);
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(again[i]), uint32_t{rounded[i].bits} << 16);
  }
}

TEST(Vector, ExponentialAndSquareRootAreThoseOfOneElement) {
  std::vector<float> x{0, -0.0f, NAN, HUGE_VALF, -HUGE_VALF, 88.7f, -87.2f, 1e-20f};
  for (int i = -3000; i < 3000; i++) x.push_back(static_cast<float>(i) / 35);
  std::vector<float> powers(x.size()), roots(x.size());
  each_lanes(static_cast<int64_t>(x.size()), [&](auto i) {
    store(powers.data(), i, exponential(load(x.data(), i)));
    store(roots.data(), i, square_root(load(x.data(), i)));
  });
  for (size_t i = 0; i < x.size(); i++) {
    const double power = std::exp(static_cast<double>(x[i]));
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(powers[i]));
    } else if (x[i] > 88.72f) {
      EXPECT_EQ(powers[i], HUGE_VALF);
    } else {
      // 2e-7 relative; results that would be denormal are 0.
      EXPECT_NEAR(static_cast<double>(powers[i]), power, 2e-7 * power + 0x1p-125) << x[i];
    }
    if (x[i] >= 0) {
      EXPECT_EQ(roots[i], std::sqrt(x[i]));
    }
  }
}

}  // namespace
}  // namespace llama_tp
