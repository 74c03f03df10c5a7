// AdamW against the same steps in f64; and bf16 weights with a rest against f32 weights, bit for bit.
#include <bit>

#include "operation_fixture.h"

namespace llama_tp {
namespace {

struct State {
  Owned w, rest, m, v;
  explicit State(const Owned& weights)
      : w(weights), rest(shape(), DType::i16), m(shape(), DType::f32), v(shape(), DType::f32) {}
  Shape shape() const { return static_cast<const Tensor&>(w).shape; }
  bool is_split() const { return static_cast<const Tensor&>(w).dtype == DType::bf16; }
  Tensor rest_or_none() const { return is_split() ? static_cast<const Tensor&>(rest) : Tensor{}; }

  // The bits of the f32 master weight, in 32-bit arithmetic as backend.h describes it.
  uint32_t master(int64_t i) const {
    if (!is_split()) return std::bit_cast<uint32_t>(static_cast<const Tensor&>(w).as<float>()[i]);
    const uint32_t high = static_cast<const Tensor&>(w).as<bf16>()[i].bits;
    const int32_t low = static_cast<const Tensor&>(rest).as<int16_t>()[i];
    return (high << 16) + static_cast<uint32_t>(low);
  }
  float weight(int64_t i) const { return std::bit_cast<float>(master(i)); }
};

// A split state whose master weights are these.
State split(const Owned& weights) {
  State state(Owned(static_cast<const Tensor&>(weights).shape, DType::bf16));
  for (int64_t i = 0; i < weights.size(); i++) {
    const uint32_t bits = std::bit_cast<uint32_t>(static_cast<const Tensor&>(weights).as<float>()[i]);
    const uint32_t high = (bits + 0x8000u) >> 16;
    static_cast<const Tensor&>(state.w).as<bf16>()[i] = {static_cast<uint16_t>(high)};
    static_cast<const Tensor&>(state.rest).as<int16_t>()[i] = static_cast<int16_t>(bits - (high << 16));
  }
  return state;
}

void update(Device& device, const AdamWOptions& options, State& state, Owned& grad, const Tensor& squared_norm) {
  device->adamw(options, {state.w, state.rest_or_none(), grad, state.m, state.v}, squared_norm);
}
// Without clipping, where the norm does not matter: not a number, it would show.
void update(Device& device, const AdamWOptions& options, State& state, Owned& grad) {
  update(device, options, state, grad, Owned({1}, DType::f64, [](int64_t) { return NAN; }));
}

AdamWOptions options_of_step(int64_t step) {
  AdamWOptions options;
  options.learning_rate = 1e-2f / static_cast<float>(step);
  options.weight_decay = 0.1f;
  options.step = step;
  return options;
}

TEST(AdamW, TwentyStepsFollowTheFormulaInF64) {
  Random random(1);
  Device device;
  for (const int64_t n : {1, 37, 40000}) {
    State state(random.normals({n}, DType::f32));
    std::vector<double> w, m(static_cast<size_t>(n)), v = m;
    for (int64_t i = 0; i < n; i++) w.push_back(state.w[i]);
    for (int64_t step = 1; step <= 20; step++) {
      const AdamWOptions options = options_of_step(step);
      const double rate = options.learning_rate, beta1 = options.beta1, beta2 = options.beta2;
      Owned grad = random.normals({n}, DType::f32);
      for (int64_t i = 0; i < n; i++) {
        const auto at = static_cast<size_t>(i);
        w[at] *= 1 - rate * options.weight_decay;
        m[at] = beta1 * m[at] + (1 - beta1) * grad[i];
        v[at] = beta2 * v[at] + (1 - beta2) * grad[i] * grad[i];
        const auto count = static_cast<double>(step);
        w[at] -= rate * (m[at] / (1 - std::pow(beta1, count))) /
                 (std::sqrt(v[at] / (1 - std::pow(beta2, count))) + options.epsilon);
      }
      update(device, options, state, grad);
      for (int64_t i = 0; i < n; i++) ASSERT_EQ(grad[i], 0);
    }
    for (int64_t i = 0; i < n; i++) {
      // Three roundings a step of w (up to 4) and some ten of an update (up to 0.01 in all, since Σ 1/step < 4).
      ASSERT_NEAR(state.w[i], w[static_cast<size_t>(i)], (20 * 3 * 4 + 20 * 10 * 0.04) * 0x1p-24);
      ASSERT_NEAR(state.m[i], m[static_cast<size_t>(i)], 20 * 3 * 0x1p-24);
      ASSERT_NEAR(state.v[i], v[static_cast<size_t>(i)], 20 * 3 * 0x1p-24);
    }
  }
}

// The least epsilon of train's alone is their denominator.
TEST(AdamW, WeightsWithoutGradientsStayAsTheyAre) {
  Random random(5);
  Device device;
  const Owned weights = random.normals({37}, DType::f32);
  AdamWOptions options;
  options.epsilon = 1e-30;
  for (State state : {State(weights), split(weights)}) {
    const State before = state;
    Owned grad({37}, DType::f32);
    for (options.step = 1; options.step <= 3; options.step++) update(device, options, state, grad);
    for (int64_t i = 0; i < 37; i++) ASSERT_EQ(state.master(i), before.master(i)) << i;
  }
}

TEST(AdamW, Bf16WeightWithItsRestIsTheF32WeightBitForBit) {
  Random random(2);
  Device device;
  for (const int64_t n : {3333, 33332}) {  // one at a time, and in fours
    const Owned weights = random.normals({n}, DType::f32, 0.02);
    State whole(weights), halves = split(weights);
    for (int64_t step = 1; step <= 50; step++) {
      Owned grad = random.normals({n}, DType::f32), same_grad = grad;
      const Owned squared_norm({1}, DType::f64, [&](int64_t) { return 3.0 * static_cast<double>(step); });
      AdamWOptions options = options_of_step(step);
      options.max_grad_norm = 5;  // clips from the ninth step on
      update(device, options, whole, grad, squared_norm);
      update(device, options, halves, same_grad, squared_norm);
      for (int64_t i = 0; i < n; i++) {
        ASSERT_EQ(halves.master(i), whole.master(i)) << "step " << step << ", element " << i;
        // The bf16 weight is the nearest one, halves away from zero.
        ASSERT_EQ(static_cast<const Tensor&>(halves.w).as<bf16>()[i].bits, (whole.master(i) + 0x8000u) >> 16);
      }
      ASSERT_TRUE(whole.m.same_bytes(halves.m) && whole.v.same_bytes(halves.v));
      ASSERT_TRUE(same_grad.same_bytes(Owned({n}, DType::f32)));
    }
  }
}

TEST(AdamW, MasterWeightsAtTheEdgesOfF32SurviveAStepThatChangesNothing) {
  Device device;
  const std::vector<uint32_t> edges{0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x3f7f8000,
                                    0x3f7f7fff, 0x3f808000, 0xbf808000, 0x7f7fffff, 0xff7fffff, 0x7f7f8000, 0xff7f7fff,
                                    0x7f800000, 0xff800000, 0x00008000, 0x00007fff, 0x80008000, 0x80007fff};
  Owned weights({static_cast<int64_t>(edges.size())}, DType::f32);
  for (size_t i = 0; i < edges.size(); i++) static_cast<const Tensor&>(weights).as<uint32_t>()[i] = edges[i];
  State state = split(weights);
  Owned grad(state.shape(), DType::f32);
  update(device, AdamWOptions{}, state, grad);  // no gradient, no decay
  for (size_t i = 0; i < edges.size(); i++)
    EXPECT_EQ(state.master(static_cast<int64_t>(i)), edges[i]) << std::hex << edges[i];
}

// Rounding the last of these as if it were a number would make it −0.
TEST(AdamW, NotANumberMakesBothTheWeightAndItsMasterNotANumber) {
  Device device;
  const std::vector<uint32_t> bits{0x7fc00000, 0xffc00000, 0x7f800001, 0xff800001,
                                   0x7fff8000, 0xffffffff, 0xffbfffff, 0x7fffffff};
  const Shape shape{static_cast<int64_t>(bits.size())};
  State state(Owned(shape, DType::bf16, [](int64_t) { return 1.0; }));
  Owned grad(shape, DType::f32);
  for (size_t i = 0; i < bits.size(); i++) static_cast<const Tensor&>(grad).as<uint32_t>()[i] = bits[i];
  for (int step = 0; step < 2; step++) {
    update(device, AdamWOptions{}, state, grad);  // the second time without a gradient
    for (int64_t i = 0; i < grad.size(); i++) {
      EXPECT_TRUE(std::isnan(state.w[i])) << i;
      EXPECT_TRUE(std::isnan(state.weight(i))) << i;
    }
  }
}

TEST(AdamW, ClippingScalesTheGradientBeforeAnythingElse) {
  Random random(3);
  Device device;
  constexpr int64_t n = 100;
  const Owned weights = random.normals({n}, DType::f32), gradient = random.normals({n}, DType::f32);
  for (const double norm : {0.5, 2.0, 40.0}) {
    AdamWOptions options = options_of_step(1);
    State clipped(weights), expected(weights);
    Owned grad = gradient;
    // In f32, as torch's clip_grad_norm_.
    const float coefficient = std::min(1.0f, 2.0f / (static_cast<float>(norm) + 1e-6f));
    Owned scaled({n}, DType::f32, [&](int64_t i) { return static_cast<float>(gradient[i]) * coefficient; });
    update(device, options, expected, scaled);
    options.max_grad_norm = 2;
    const Owned squared_norm({1}, DType::f64, [&](int64_t) { return norm * norm; });
    update(device, options, clipped, grad, squared_norm);
    EXPECT_TRUE(clipped.w.same_bytes(expected.w) && clipped.m.same_bytes(expected.m) &&
                clipped.v.same_bytes(expected.v));
  }
}

TEST(AdamW, ANormThatIsNotANumberReachesTheWeights) {
  Device device;
  State state(Owned({3}, DType::f32, [](int64_t) { return 1.0; }));
  Owned grad({3}, DType::f32, [](int64_t) { return 1.0; });
  AdamWOptions options;
  options.max_grad_norm = 1;
  update(device, options, state, grad, Owned({1}, DType::f64, [](int64_t) { return NAN; }));
  for (int64_t i = 0; i < 3; i++) EXPECT_TRUE(std::isnan(state.w[i]));
}

}  // namespace
}  // namespace llama_tp
