#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace llama_tp {

namespace {

// θ^(2i / R), of which a pair's frequency is the reciprocal.
float power_of(double theta, size_t i, int64_t rotary_dim) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
  return std::pow(static_cast<float>(theta), exponent);
}

// NTK-aware scaling that grows with the length: θ' = θ · (factor · n / N − (factor − 1))^(R / (R − 2)).
double dynamic_theta(const ModelConfig& config, int64_t length) {
  const auto dim = static_cast<double>(config.rotary_dim), positions = static_cast<double>(config.max_positions);
  const double longest = std::max(static_cast<double>(length), positions), factor = config.rope.factor;
  return config.rope.theta * std::pow(factor * longest / positions - (factor - 1), dim / (dim - 2));
}

// Llama 3.1: wavelengths beyond the original context are stretched by `factor`, short ones are kept, those between are
// blended.
float llama3_frequency(const RopeConfig& rope, float frequency) {
  const auto context = static_cast<float>(rope.original_max_positions), factor = static_cast<float>(rope.factor);
  const auto low = static_cast<float>(rope.low_frequency_factor), high = static_cast<float>(rope.high_frequency_factor);
  const float wavelength = 2 * std::numbers::pi_v<float> / frequency;
  if (wavelength < context / high) return frequency;
  if (wavelength > context / low) return frequency / factor;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

// YaRN (Peng et al. 2023): pairs that rotate more often than fast_rotations in the original context are kept, those that
// rotate less often than slow_rotations are stretched by `factor`, with a ramp over their indices between them.
struct YarnRamp {
  explicit YarnRamp(const ModelConfig& config) {
    const RopeConfig& rope = config.rope;
    // The index of the pair that rotates so often, as a real number.
    const auto index = [&](double rotations) {
      const double wavelength = static_cast<double>(rope.original_max_positions) / (rotations * 2 * std::numbers::pi);
      return static_cast<double>(config.rotary_dim) * std::log(wavelength) / (2 * std::log(rope.theta));
    };
    double first = index(rope.fast_rotations), last = index(rope.slow_rotations);
    if (rope.whole_bounds) {
      first = std::floor(first);
      last = std::ceil(last);
    }
    first = std::max(first, 0.0);
    last = std::min(last, static_cast<double>(config.rotary_dim - 1));
    begin = static_cast<float>(first);
    width = static_cast<float>(first == last ? 0.001 : last - first);  // transformers' guard against a ramp of no width
  }

  float frequency(size_t i, float power, double factor) const {
    const float kept = 1 - std::clamp((static_cast<float>(i) - begin) / width, 0.0f, 1.0f);
    return 1.0f / (static_cast<float>(factor) * power) * (1 - kept) + 1.0f / power * kept;
  }

  float begin, width;
};

}  // namespace

int64_t trained_positions(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  constexpr double most = 1e15;  // a factor may be anything
  const auto stretched = [&](int64_t positions) {
    return static_cast<int64_t>(std::min(rope.factor * static_cast<double>(positions), most));
  };
  if (rope.kind == RopeKind::linear) return stretched(config.max_positions);
  if (rope.kind == RopeKind::yarn) return std::max(config.max_positions, stretched(rope.original_max_positions));
  return config.max_positions;
}

bool rope_follows_length(const RopeConfig& rope) {
  return rope.kind == RopeKind::dynamic || rope.kind == RopeKind::longrope;
}

void rope_frequencies(const ModelConfig& config, int64_t length, std::span<float> frequencies) {
  const RopeConfig& rope = config.rope;
  const double theta = rope.kind == RopeKind::dynamic ? dynamic_theta(config, length) : rope.theta;
  const YarnRamp yarn(config);
  const std::vector<float>& factors = length > rope.original_max_positions ? rope.long_factors : rope.short_factors;
  for (size_t i = 0; i < frequencies.size(); i++) {
    const float power = power_of(theta, i, config.rotary_dim);
    float frequency = 1.0f / power;
    if (rope.kind == RopeKind::linear) frequency /= static_cast<float>(rope.factor);
    if (rope.kind == RopeKind::llama3) frequency = llama3_frequency(rope, frequency);
    if (rope.kind == RopeKind::yarn) frequency = yarn.frequency(i, power, rope.factor);
    if (rope.kind == RopeKind::longrope) frequency = 1.0f / (factors[i] * power);
    frequencies[i] = frequency;
  }
}

}  // namespace llama_tp
