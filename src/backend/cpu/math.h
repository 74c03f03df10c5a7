// Functions of one float, written without branches and calls so that `#pragma omp simd` vectorizes a loop of them on
// any instruction set without -ffast-math.
#pragma once

#include <bit>
#include <cstdint>

namespace llama_tp {

inline constexpr float log2_of_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;

// eʳ for |r| ≤ ln 2 / 2 by its Taylor polynomial of degree 7 (remainder 5e-9).
template <class Real>
Real exponential_near_0(Real r) {
  Real p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  return (p * r) * r + r + 1.0f;
}

// eˣ within 1e-7 relative; below −87.3 it is 0 (denormal results are flushed), above 88.72 infinity; NaN stays NaN.
// x = n ln 2 + r; 2ⁿ by the exponent's bits.
inline float fast_exp(float x) {
  constexpr float to_integer = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer in the low bits
  const float shifted = x * log2_of_e + to_integer;
  const float n = shifted - to_integer;
  const float power = exponential_near_0((x - n * ln2_high) - n * ln2_low);
  // 2ⁿ in two factors, since n may be 128 where the product is still finite.
  const uint32_t integer = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(to_integer);
  const uint32_t half = static_cast<uint32_t>(static_cast<int32_t>(integer) >> 1);
  const float low = std::bit_cast<float>((half + 127) << 23);
  const float high = std::bit_cast<float>((integer - half + 127) << 23);
  // Outside of the range all this is garbage. Masks, since GCC makes `?:` a branch and then does not vectorize.
  const uint32_t above = -static_cast<uint32_t>(x > 88.72f), below = -static_cast<uint32_t>(x < -87.3f);
  const uint32_t infinity = 0x7f800000u, bits = std::bit_cast<uint32_t>(power * low * high);
  return std::bit_cast<float>((bits & ~above & ~below) | (infinity & above));
}

}  // namespace llama_tp
