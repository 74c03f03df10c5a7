// The loss of a vocabulary split unevenly over ranks, against the softmax of the whole row in f64.
#include "operation_fixture.h"

namespace llama_tp {
namespace {

constexpr float infinity = HUGE_VALF;
// Columns of a rank, padding included: without any, and so many that rows are aligned to 16 bytes.
constexpr std::array<int64_t, 2> strides{53, 56};
constexpr std::array<int64_t, 3> columns{53, 37, 0};  // those that exist
constexpr std::array<int64_t, 3> first_column{0, 53, 90};
constexpr int64_t vocabulary = 90;

struct Batch {
  int64_t stride;
  std::vector<Owned> logits;  // of each rank
  Owned targets;
  double at(int64_t t, int64_t column) const {
    const size_t rank = column < first_column[1] ? 0 : 1;
    return logits[rank][t * stride + column - first_column[rank]];
  }
};

Batch random_batch(int64_t tokens, int64_t stride, Random& random) {
  Batch batch{stride, {}, Owned({tokens}, DType::i32, [&](int64_t t) {
                return t % 4 == 3 ? -100.0 : static_cast<double>(random.below(vocabulary));
              })};
  // Padding holds large numbers, which must not matter.
  for (const int64_t existing : columns)
    batch.logits.push_back(Owned({tokens, stride}, DType::f32,
                                 [&](int64_t i) { return i % stride < existing ? 10 * random.normal() : 1000; }));
  return batch;
}

struct Loss {
  Owned lse, sum;
};

Loss loss_of(Device& device, const Batch& batch) {
  const int64_t tokens = batch.targets.size();
  Owned gathered({3, tokens, 3}, DType::f32);
  for (size_t rank = 0; rank < 3; rank++)
    device->cross_entropy_statistics(
        batch.logits[rank], batch.targets, first_column[rank], columns[rank],
        static_cast<const Tensor&>(gathered).rows(static_cast<int64_t>(rank), 1).reshaped({tokens, 3}));
  Loss loss{Owned({tokens, 2}, DType::f32), Owned({1}, DType::f64, [](int64_t) { return 1.5; })};
  device->cross_entropy_loss(gathered, batch.targets, loss.lse, loss.sum);
  return loss;
}

// The larger one of the two has at most half of a unit of its own, the sum as many of 1.
void expect_lse(const Owned& lse, int64_t t, double expected, double roundings) {
  EXPECT_NEAR(static_cast<double>(lse[2 * t]) + static_cast<double>(lse[2 * t + 1]), expected, roundings * 0x1p-24);
}

double plain_lse(const Batch& batch, int64_t t) {
  double maximum = -HUGE_VAL, sum = 0;
  for (int64_t c = 0; c < vocabulary; c++) maximum = std::max(maximum, batch.at(t, c));
  for (int64_t c = 0; c < vocabulary; c++) sum += std::exp(batch.at(t, c) - maximum);
  return maximum + std::log(sum);
}

TEST(CrossEntropy, StatisticsAreOfTheColumnsThatExist) {
  Device device;
  const Owned logits({2, 5}, DType::f32, [](int64_t i) {
    return std::array<double, 10>{1, 3, 2, 9, 9, -1, -1, -1, 9, 9}[static_cast<size_t>(i)];
  });
  const Owned targets({2}, DType::i32, [](int64_t t) { return t == 0 ? 12 : 99; });
  Owned statistics({2, 3}, DType::f32);
  device->cross_entropy_statistics(logits, targets, 10, 3, statistics);
  EXPECT_EQ(statistics[0], 3);
  EXPECT_NEAR(statistics[1], std::exp(-2.0) + 1 + std::exp(-1.0), 1e-6);  // a handful of roundings of 1
  EXPECT_EQ(statistics[2], 2);
  EXPECT_EQ(statistics[3], -1);
  EXPECT_NEAR(statistics[4], 3, 1e-6);
  EXPECT_EQ(statistics[5], -infinity) << "another rank holds this target";

  device->cross_entropy_statistics(logits, targets, 10, 0, statistics);
  for (const int64_t t : {0, 1}) {
    EXPECT_EQ(statistics[3 * t], -infinity);
    EXPECT_EQ(statistics[3 * t + 1], 0);
    EXPECT_EQ(statistics[3 * t + 2], -infinity);
  }
}

TEST(CrossEntropy, LossOfASplitVocabularyIsThatOfTheWhole) {
  Random random(1);
  Device device;
  for (const int64_t tokens : {1, 200})
    for (const int64_t stride : strides) {
      const Batch batch = random_batch(tokens, stride, random);
      const Loss loss = loss_of(device, batch);
      double expected = 1.5;  // what was there is added to
      for (int64_t t = 0; t < tokens; t++) {
        const double lse = plain_lse(batch, t);
        expect_lse(loss.lse, t, lse, 10);  // Σ exp: some roundings relative to the sum, so absolute in its log
        if (batch.targets[t] >= 0) expected += lse - batch.at(t, static_cast<int64_t>(batch.targets[t]));
      }
      EXPECT_NEAR(loss.sum[0], expected, static_cast<double>(tokens) * 10 * 0x1p-24);
    }
}

TEST(CrossEntropy, GradientIsSoftmaxMinusOneHot) {
  Random random(2);
  Device device;
  constexpr float scale = 0.125f;
  for (const DType dtype : activation_types)
    for (const int64_t stride : strides) {
      const int64_t tokens = 101;
      const Batch batch = random_batch(tokens, stride, random);
      const Loss loss = loss_of(device, batch);
      for (size_t rank = 0; rank < 3; rank++) {
        Owned dlogits = random.normals({tokens, stride}, dtype);
        device->cross_entropy_backward(batch.logits[rank], batch.targets, loss.lse, first_column[rank], columns[rank],
                                       scale, dlogits);
        for (int64_t t = 0; t < tokens; t++)
          for (int64_t c = 0; c < stride; c++) {
            const int64_t column = first_column[rank] + c;
            double expected = 0;
            if (c < columns[rank] && batch.targets[t] >= 0)
              expected = std::exp(batch.at(t, column) - plain_lse(batch, t)) -
                         (static_cast<int64_t>(batch.targets[t]) == column ? 1 : 0);
            // logit − m − log Σ is rounded, up to 128: a relative error of a probability, at most 1.
            expect_close(dlogits, t * stride + c, static_cast<double>(scale) * expected, 150,
                         static_cast<double>(scale));
          }
      }
    }
}

// Rows so long that each thread of a block takes several pieces, of 4 and of 16 bytes; and their maximum rises from one to
// the next.
TEST(CrossEntropy, LossAndGradientOfALongRowThatRises) {
  Random random(6);
  Device device;
  constexpr float scale = 0.125f;
  constexpr int64_t tokens = 3;
  for (const int64_t n : {2563, 9000}) {
    const Owned logits({tokens, n}, DType::f32,
                       [&](int64_t i) { return 10 * random.normal() + 0.004 * static_cast<double>(i % n); });
    const Owned targets({tokens}, DType::i32, [&](int64_t) { return static_cast<double>(random.below(n)); });
    Owned statistics({tokens, 3}, DType::f32), lse({tokens, 2}, DType::f32), sum({1}, DType::f64);
    device->cross_entropy_statistics(logits, targets, 0, n, statistics);
    device->cross_entropy_loss(static_cast<const Tensor&>(statistics).reshaped({1, tokens, 3}), targets, lse, sum);
    std::vector<double> plain;
    double expected = 0;
    for (int64_t t = 0; t < tokens; t++) {
      double exponentials = 0;  // of at most e^100, which f64 has
      for (int64_t c = 0; c < n; c++) exponentials += std::exp(logits[t * n + c]);
      plain.push_back(std::log(exponentials));
      // Of some n/16 additions in a row at worst each rounds relative to the sum, either way.
      expect_lse(lse, t, plain.back(), 10 + std::sqrt(static_cast<double>(n)));
      expected += plain.back() - logits[t * n + static_cast<int64_t>(targets[t])];
    }
    EXPECT_NEAR(sum[0], expected, static_cast<double>(tokens) * (10 + std::sqrt(static_cast<double>(n))) * 0x1p-24);
    for (const DType dtype : activation_types) {
      const Owned dlogits({tokens, n}, dtype);
      device->cross_entropy_backward(logits, targets, lse, 0, n, scale, dlogits);
      for (int64_t i = 0; i < dlogits.size(); i++) {
        const int64_t t = i / n;
        const double one_hot = static_cast<int64_t>(targets[t]) == i % n ? 1 : 0;
        // logit − m − log Σ is rounded: a relative error of a probability, at most 1.
        expect_close(dlogits, i,
                     static_cast<double>(scale) * (std::exp(logits[i] - plain[static_cast<size_t>(t)]) - one_hot), 240,
                     static_cast<double>(scale));
      }
    }
  }
}

TEST(CrossEntropy, GradientMayBeWrittenOverTheLogits) {
  Random random(3);
  Device device;
  for (const int64_t stride : strides) {
    Batch batch = random_batch(150, stride, random);
    const Loss loss = loss_of(device, batch);
    for (size_t rank = 0; rank < 3; rank++) {
      Owned apart({150, stride}, DType::f32);
      Owned& logits = batch.logits[rank];
      device->cross_entropy_backward(logits, batch.targets, loss.lse, first_column[rank], columns[rank], 1, apart);
      device->cross_entropy_backward(logits, batch.targets, loss.lse, first_column[rank], columns[rank], 1, logits);
      EXPECT_TRUE(logits.same_bytes(apart));
    }
  }
}

// What a model that has learned a token by heart still loses: 3 · exp(−12.5) = 1.1e-5, beside logits of which a unit is
// 1e-4. Σ exp has it to a rounding of 1, or three.
TEST(CrossEntropy, ATargetNearCertaintyKeepsWhatItLoses) {
  Device device;
  const Owned logits({1, 4}, DType::f32, [](int64_t i) { return i == 2 ? 1000.0 : 987.5; });
  const Owned targets({1}, DType::i32, [](int64_t) { return 2; });
  const Owned statistics({1, 3}, DType::f32), lse({1, 2}, DType::f32), sum({1}, DType::f64),
      dlogits({1, 4}, DType::f32);
  device->cross_entropy_statistics(logits, targets, 0, 4, statistics);
  device->cross_entropy_loss(static_cast<const Tensor&>(statistics).reshaped({1, 1, 3}), targets, lse, sum);
  device->cross_entropy_backward(logits, targets, lse, 0, 4, 1, dlogits);
  const double other = std::exp(-12.5);
  EXPECT_NEAR(sum[0], std::log1p(3 * other), 3 * 0x1p-24);
  EXPECT_NEAR(dlogits[2], -3 * other, 6 * 0x1p-24);  // exp near 1 is good to 2 units
  EXPECT_NEAR(dlogits[0], other / (1 + 3 * other), 40 * 0x1p-24 * other);
}

TEST(CrossEntropy, LogitsOfMinusInfinityHaveProbabilityZero) {
  Random random(4);
  Device device;
  constexpr int64_t stride = strides[1];
  Batch batch = random_batch(1, stride, random);
  batch.targets.set(0, 60);
  for (int64_t c = 0; c < stride; c++) batch.logits[0].set(c, -infinity);  // all of rank 0's
  const Loss loss = loss_of(device, batch);
  double lse = 0;
  for (int64_t c = 53; c < vocabulary; c++) lse += std::exp(batch.at(0, c));
  expect_lse(loss.lse, 0, std::log(lse), 10);
  Owned dlogits({1, stride}, DType::f32, [](int64_t) { return 5; });
  device->cross_entropy_backward(batch.logits[0], batch.targets, loss.lse, 0, columns[0], 1, dlogits);
  for (int64_t c = 0; c < stride; c++) EXPECT_EQ(dlogits[c], 0);
}

TEST(CrossEntropy, NotANumberStaysVisible) {
  Random random(5);
  Device device;
  for (const int64_t bad : {0, 5, 16, 33, 52}) {
    Batch batch = random_batch(1, strides[1], random);
    batch.targets.set(0, 60);
    batch.logits[0].set(bad, NAN);
    const Loss loss = loss_of(device, batch);
    EXPECT_TRUE(std::isnan(loss.sum[0])) << "logit " << bad << " is NaN";
    Owned dlogits({1, batch.stride}, DType::bf16);
    device->cross_entropy_backward(batch.logits[0], batch.targets, loss.lse, 0, columns[0], 1, dlogits);
    EXPECT_TRUE(std::isnan(dlogits[0]));
  }
}

}  // namespace
}  // namespace llama_tp
