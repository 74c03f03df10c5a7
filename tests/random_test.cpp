// The counter-based generator against the vectors that its authors published, and against the moments of its
// distributions.
#include "base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <set>
#include <vector>

#include "base/fingerprint.h"

namespace llama_tp {
namespace {

// Random123's known answers for philox4x32 with ten rounds.
TEST(Random, PhiloxGivesItsAuthorsKnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, SeedStreamAndIndexAreTheKeyAndTheHalvesOfTheCounter) {
  const PhiloxCounter block = philox4x32({0x85a308d3, 0x243f6a88, 0x03707344, 0x13198a2e}, {0x299f31d0, 0xa4093822});
  EXPECT_EQ(random_uint64(0xa4093822299f31d0, 0x13198a2e03707344, 0x243f6a8885a308d3),
            uint64_t{block[1]} << 32 | block[0]);
}

// 64-bit FNV-1a of "" and "foobar", as its authors list them.
TEST(Random, StreamsOfNamesAreTheirFingerprints) {
  for (const auto& number_of : {fingerprint, stream_named}) {
    EXPECT_EQ(number_of(""), 0xcbf29ce484222325u);
    EXPECT_EQ(number_of("foobar"), 0x85944171f73967e8u);
  }
}

// Of a program of its own, in Python. They stand in checkpoints.
TEST(Random, FingerprintsOfDataNeverChange) {
  EXPECT_EQ(data_fingerprint(""), 0);
  EXPECT_EQ(data_fingerprint("foobar"), 0x9fe1dab1807a6685u);
  EXPECT_EQ(data_fingerprint("seventeen letters"), 0x933b413600f3fd08u);
  EXPECT_EQ(data_fingerprint("foobar", data_fingerprint("x")), 0x2b77f20111e45c90u);
  const std::vector<int32_t> numbers{1, 2, 3};
  const std::string bytes("\1\0\0\0\2\0\0\0\3\0\0\0", 12);
  EXPECT_EQ(data_fingerprint(std::span(numbers)), data_fingerprint(bytes));
}

// What damage does mostly: a bit, or places that changed; and zeros count.
TEST(Random, DataThatDifferALittleHaveOtherFingerprints) {
  std::set<uint64_t> seen{data_fingerprint(std::string(1000, 0))};
  for (size_t bit = 0; bit < 8000; bit++) {
    std::string data(1000, 0);
    data[bit / 8] = static_cast<char>(1 << bit % 8);
    seen.insert(data_fingerprint(data));
  }
  for (size_t size = 0; size < 1000; size++) seen.insert(data_fingerprint(std::string(size, 0)));
  EXPECT_EQ(seen.size(), 9001u);
}

// By the formula: r cos φ and r sin φ of each half of a Philox block, r² = −2 ln u with u in (0, 1].
float normal(uint64_t seed, uint32_t stream, uint64_t index) {
  const uint64_t quad = index / 4;
  const PhiloxCounter bits = philox4x32({static_cast<uint32_t>(quad), static_cast<uint32_t>(quad >> 32), stream, 0},
                                        {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const size_t pair = index % 4 / 2 * 2;
  const float u = (static_cast<float>(bits[pair]) + 0.5f) * 0x1p-32f, radius = std::sqrt(-2.0f * std::log(u)),
              angle = static_cast<float>(bits[pair + 1]) * (2.0f * std::numbers::pi_v<float> * 0x1p-32f);
  return radius * (index % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

TEST(Random, NormalsAreTheFormulasWhereverARangeBegins) {
  for (const uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{6}, (uint64_t{1} << 33) + 3}) {
    std::vector<float> filled(23);
    fill_normal(filled.data(), 23, 0.02f, 7, 9, first);
    for (size_t i = 0; i < filled.size(); i++) EXPECT_EQ(filled[i], 0.02f * normal(7, 9, first + i)) << i;
  }
}

// With n = 400,000 draws the k-th moment has a standard error of sqrt(E x^2k - (E x^k)^2) / sqrt(n); five of them are
// allowed.
TEST(Random, NormalsHaveTheMomentsOfTheNormalDistribution) {
  constexpr int64_t n = 400000;
  std::vector<float> x(n);
  fill_normal(x.data(), n, 1.0f, 42, stream_named("weights"), 0);
  double sum = 0, squares = 0, cubes = 0, fourths = 0, neighbours = 0;
  for (size_t i = 0; i < n; i++) {
    const double v = x[i];
    sum += v, squares += v * v, cubes += v * v * v, fourths += v * v * v * v;
    if (i > 0) neighbours += v * x[i - 1];
  }
  const double five_errors = 5 / std::sqrt(static_cast<double>(n));
  EXPECT_NEAR(sum / n, 0, five_errors);
  EXPECT_NEAR(squares / n, 1, five_errors * std::sqrt(2.0));
  EXPECT_NEAR(cubes / n, 0, five_errors * std::sqrt(15.0));
  EXPECT_NEAR(fourths / n, 3, five_errors * std::sqrt(96.0));
  EXPECT_NEAR(neighbours / n, 0, five_errors);
}

TEST(Random, UniformsLieInTheHalfOpenUnitIntervalAndFillItEvenly) {
  constexpr int64_t n = 160000;
  std::vector<int> counts(16);
  for (uint64_t i = 0; i < n; i++) {
    const float u = random_uniform(1, 2, i);
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
    counts[static_cast<size_t>(u * 16)]++;
  }
  for (const int count : counts) EXPECT_NEAR(count, n / 16.0, 5 * std::sqrt(n / 16.0));
}

TEST(Random, SeedsAndStreamsThatDifferGiveValuesThatDiffer) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < 10; seed++)
    for (uint64_t stream = 0; stream < 10; stream++)
      for (uint64_t index = 0; index < 10; index++) seen.insert(random_uint64(seed, stream, index));
  EXPECT_EQ(seen.size(), 1000u);
}

}  // namespace
}  // namespace llama_tp
