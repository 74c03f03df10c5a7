// Products with many tokens, which are cuBLASLt's, against plain loops in f64: by its first heuristic, and by what tuning
// chose.
#include <span>

#include "backend/cuda/cuda_backend.h"
#include "operation_fixture.h"

namespace llama_tp {
namespace {

struct Sizes {
  int64_t tokens, k, n;
};
// Beyond the few tokens of the matrix-vector kernel; odd ones among them.
constexpr std::array<Sizes, 5> sizes{{{9, 64, 48}, {17, 31, 13}, {64, 96, 80}, {100, 7, 3}, {33, 50, 205}}};

// Σ_i a[i] · b[i] of `count` products, and the size of its terms: f32 sums are off by a rounding a product at most, in
// whatever order they are added.
template <class A, class B>
void expect_sum(const Owned& got, int64_t at, double before, int64_t count, const A& a, const B& b) {
  double sum = before, terms = std::fabs(before);
  for (int64_t i = 0; i < count; i++) {
    sum += a(i) * b(i);
    terms += std::fabs(a(i) * b(i));
  }
  expect_close(got, at, sum, static_cast<double>(count + 1), terms);
}

// The product with the transposed weight, plus bias.
void expect_forward(Device& device, std::span<const Sizes> of) {
  Random random(1);
  for (const DType dtype : activation_types)
    for (const DType output : {dtype, DType::f32})
      for (const Sizes& s : of)
        for (const bool with_bias : {false, true}) {
          if (with_bias && output != dtype) continue;  // no caller has a bias there
          const Owned x = random.normals({s.tokens, s.k}, dtype), w = random.normals({s.n, s.k}, dtype),
                      bias = random.normals({s.n}, dtype), y({s.tokens, s.n}, output);
          device->linear_forward(x, w, with_bias ? static_cast<const Tensor&>(bias) : Tensor{}, y);
          for (int64_t i = 0; i < s.tokens * s.n; i++)
            expect_sum(
                y, i, with_bias ? bias[i % s.n] : 0, s.k, [&](int64_t j) { return x[i / s.n * s.k + j]; },
                [&](int64_t j) { return w[i % s.n * s.k + j]; });
        }
}

void expect_backward_input(Device& device, std::span<const Sizes> of) {
  Random random(2);
  for (const DType dtype : activation_types)
    for (const Sizes& s : of) {
      const Owned dy = random.normals({s.tokens, s.n}, dtype), w = random.normals({s.n, s.k}, dtype);
      const Owned dx({s.tokens, s.k}, dtype, [](int64_t) { return 1e9; });  // to be overwritten
      device->linear_backward_input(dy, w, dx);
      for (int64_t i = 0; i < s.tokens * s.k; i++)
        expect_sum(
            dx, i, 0, s.n, [&](int64_t j) { return dy[i / s.k * s.n + j]; },
            [&](int64_t j) { return w[j * s.k + i % s.k]; });
    }
}

// Added to what is there.
void expect_backward_weight(Device& device, std::span<const Sizes> of) {
  Random random(3);
  for (const DType dtype : activation_types)
    for (const Sizes& s : of) {
      const Owned dy = random.normals({s.tokens, s.n}, dtype), x = random.normals({s.tokens, s.k}, dtype);
      const Owned dw = random.normals({s.n, s.k}, DType::f32), before = dw;
      device->linear_backward_weight(dy, x, dw);
      for (int64_t i = 0; i < s.n * s.k; i++)
        expect_sum(
            dw, i, before[i], s.tokens, [&](int64_t j) { return dy[j * s.n + i / s.k]; },
            [&](int64_t j) { return x[j * s.k + i % s.k]; });
    }
}

TEST(Products, ForwardIsTheProductWithTheTransposedWeightPlusBias) {
  Device device;
  expect_forward(device, sizes);
}

TEST(Products, BackwardInputIsTheProductWithTheWeight) {
  Device device;
  expect_backward_input(device, sizes);
}

TEST(Products, BackwardWeightAddsToWhatIsThere) {
  Device device;
  expect_backward_weight(device, sizes);
}

TEST(Products, AreTheSameByWhatTuningChose) {
  const auto all = [](Device& device) {
    constexpr std::span<const Sizes> some{sizes.begin() + 1, 2};
    expect_forward(device, some);
    expect_backward_input(device, some);
    expect_backward_weight(device, some);
  };
  Device untuned;
  all(untuned);
  int products = 0;
  const std::string file = untuned->product_tuner()->tune({}, [&](const TimedProduct& product) {
    products++;
    EXPECT_GE(product.times.algorithms, 1);
    EXPECT_LE(product.times.chosen_seconds, product.times.first_seconds);
  });
  Device tuned(std::make_unique<CudaBackend>(DevicePlace{.products = {"tuned.json", file}}));
  all(tuned);
  EXPECT_EQ(tuned->product_tuner()->usage(), text(products, " of ", products, " by tuned.json"));
}

}  // namespace
}  // namespace llama_tp
