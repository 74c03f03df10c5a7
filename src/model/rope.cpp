// Rotation frequencies: f32 arithmetic in the order that transformers' modeling_rope_utils uses, so that f32 runs agree
// with it.
#include <cmath>
#include <numbers>

#include "model/config.h"

namespace llama_tp {

namespace {

// f_i = 1 / θ^(2i / R)
float standard_frequency(double theta, size_t i, int64_t rotary_dim) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
  return 1.0f / std::pow(static_cast<float>(theta), exponent);
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

}  // namespace

void rope_frequencies(const ModelConfig& config, int64_t length, std::span<float> frequencies) {
  const RopeConfig& rope = config.rope;
  const double theta = rope.kind == RopeKind::dynamic ? dynamic_theta(config, length) : rope.theta;
  for (size_t i = 0; i < frequencies.size(); i++) {
    float frequency = standard_frequency(theta, i, config.rotary_dim);
    if (rope.kind == RopeKind::linear) frequency /= static_cast<float>(rope.factor);
    if (rope.kind == RopeKind::llama3) frequency = llama3_frequency(rope, frequency);
    frequencies[i] = frequency;
  }
}

}  // namespace llama_tp
