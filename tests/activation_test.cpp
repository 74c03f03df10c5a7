// Activations against their formulas in f64, gradients against differences of those.
#include <numbers>

#include "operation_fixture.h"

namespace llama_tp {
namespace {

constexpr std::array<Activation, 3> kinds{Activation::silu, Activation::gelu_tanh, Activation::relu_squared};

template <class Real>
Real plain(Activation kind, Real x) {
  switch (kind) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi_v<Real>) * (x + Real(0.044715) * x * x * x)));
    case Activation::relu_squared:
      return x > 0 ? x * x : 0;
  }
  return 0;
}

// By central differences: exact to 1e-9, and to half a step where relu_squared bends.
double plain_slope(Activation kind, long double x) {
  constexpr long double step = 1e-7L;
  return static_cast<double>((plain(kind, x + step) - plain(kind, x - step)) / (2 * step));
}

// The usual range, both tails and zero.
Owned inputs(const Shape& shape, DType dtype, Random& random) {
  return {shape, dtype, [&](int64_t i) {
            constexpr std::array<double, 8> special{0, -0.0, 60, -60, 10, -10, 1e-20, 120};
            return i % 5 == 0 ? special[static_cast<size_t>(random.below(8))] : 2 * random.normal();
          }};
}

struct Case {
  ActivationOptions options;
  DType dtype;
  int64_t tokens, width;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Activation kind : kinds)
    for (const bool gated : {true, false})
      for (const DType dtype : activation_types)
        for (const auto& [tokens, width] : {std::pair<int64_t, int64_t>{1, 1}, {3, 45}, {40, 530}, {37, 72}})
          all.push_back({{kind, gated}, dtype, tokens, width});
  return all;
}

TEST(Activation, ForwardIsTheFormulaRoundedOnce) {
  Random random(1);
  Device device;
  for (const Case& of : cases()) {
    const int64_t stride = of.options.gated ? 2 * of.width : of.width;
    const Owned input = inputs({of.tokens, stride}, of.dtype, random);
    Owned y({of.tokens, of.width}, of.dtype);
    device->activation_forward(input, of.options, y);
    for (int64_t t = 0; t < of.tokens; t++)
      for (int64_t i = 0; i < of.width; i++) {
        const double x = input[t * stride + i], up = of.options.gated ? input[t * stride + of.width + i] : 1;
        const double expected = plain(of.options.kind, x) * up;
        // exp is good to 2 units (4 roundings) and its argument, up to 2·√(2/π)·|x|³/20 + …, has 3 of its own: for
        // |x| < 6 that is 30 roundings at most, and beyond the sigmoid is 0 or 1 (to 1e-7 of x).
        expect_close(y, t * of.width + i, expected, 8 + 100 * std::exp(-std::fabs(x) / 2), std::fabs(x * up) + 1e-30);
      }
  }
}

TEST(Activation, BackwardIsTheSlopeOfForward) {
  Random random(2);
  Device device;
  for (const Case& of : cases()) {
    const int64_t stride = of.options.gated ? 2 * of.width : of.width;
    const Owned input = inputs({of.tokens, stride}, of.dtype, random);
    const Owned dy = random.normals({of.tokens, of.width}, of.dtype);
    const Owned dinput = input, y = dy;
    device->activation_backward(y, dinput, of.options);
    for (int64_t t = 0; t < of.tokens; t++)
      for (int64_t i = 0; i < of.width; i++) {
        const int64_t at = t * stride + i;
        const double x = input[at], d = dy[t * of.width + i], up = of.options.gated ? input[at + of.width] : 1;
        // As forward, one factor x more; the difference's error is below a rounding of 1 + |x|.
        const double terms = std::fabs(d * up) * (1 + std::fabs(x));
        expect_close(dinput, at, d * up * plain_slope(of.options.kind, x), 60, terms);
        if (of.options.gated) {
          const double act = plain(of.options.kind, x);
          expect_close(dinput, at + of.width, d * act, 8 + 100 * std::exp(-std::fabs(x) / 2), std::fabs(d * x) + 1e-30);
        }
      }
  }
}

TEST(Activation, BackwardLeavesWhatForwardGaveInPlaceOfItsGradient) {
  Random random(3);
  Device device;
  for (const Case& of : cases()) {
    const int64_t stride = of.options.gated ? 2 * of.width : of.width;
    const Owned input = inputs({of.tokens, stride}, of.dtype, random);
    const Owned y({of.tokens, of.width}, of.dtype), again = random.normals({of.tokens, of.width}, of.dtype);
    device->activation_forward(input, of.options, y);
    device->activation_backward(again, input, of.options);
    EXPECT_TRUE(again.same_bytes(y));
  }
}

}  // namespace
}  // namespace llama_tp
