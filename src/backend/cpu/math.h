// Functions of one float, written without branches and calls so that `#pragma omp simd` vectorizes a loop of them on
// any instruction set without -ffast-math.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace llama_tp {

// eˣ within 2 units in the last place for x ≤ 88.7 (2e-7 relative); below −87.3 it is 0 (results that would be
// denormal are flushed), above 88.7 infinity or a value near the largest float. NaN is not kept.
// x = n ln 2 + r with |r| ≤ ln 2 / 2; eʳ by its Taylor polynomial of degree 7 (remainder 5e-9); 2ⁿ by the exponent's
// bits.
inline float fast_exp(float x) {
  constexpr float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float to_integer = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer in the low bits
  const float bounded = std::min(std::max(x, -87.5f), 88.72f);
  const float shifted = bounded * log2_e + to_integer;
  const float n = shifted - to_integer;
  const float r = (bounded - n * ln2_high) - n * ln2_low;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = (p * r) * r + r;
  // 2ⁿ in two factors, since n may be 128 where the product is still finite.
  const int32_t integer = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(to_integer);
  const int32_t half = integer >> 1;
  const float low = std::bit_cast<float>((half + 127) << 23);
  const float high = std::bit_cast<float>((integer - half + 127) << 23);
  const float value = (p + 1.0f) * low * high;
  return x < -87.3f ? 0.0f : value;
}

}  // namespace llama_tp
