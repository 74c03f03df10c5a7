// What attention and the matrix-vector product do across the lanes of vectors (backend/cpu/vector.h): sums, maxima,
// transposes, masks; and 2^x.
#pragma once

#include <utility>

#include "backend/cpu/parallel.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

template <int by, size_t... lane>
inline Floats turned(Floats x, std::index_sequence<lane...>) {
  return __builtin_shufflevector(x, x, ((lane + by) % lanes)...);
}
template <int half = lanes / 2>
inline float largest_lane(Floats x) {
  x = largest(x, turned<half>(x, std::make_index_sequence<lanes>()));
  if constexpr (half > 1)
    return largest_lane<half / 2>(x);
  else
    return x[0];
}
template <int half = lanes / 2>
inline float total_of_lanes(Floats x) {
  x += turned<half>(x, std::make_index_sequence<lanes>());
  if constexpr (half > 1)
    return total_of_lanes<half / 2>(x);
  else
    return x[0];
}

template <size_t... lane>
inline constexpr Words numbered(std::index_sequence<lane...>) {
  return Words{static_cast<uint32_t>(lane)...};
}
// The vector's lanes in `some`, which counts from its first lane; the rest 0.
inline Floats within(Range some, Floats value) {
  if (some.begin <= 0 && some.end >= lanes) return value;
  constexpr Words number = numbered(std::make_index_sequence<lanes>());
  const auto begin = static_cast<uint32_t>(std::clamp<int64_t>(some.begin, 0, lanes));
  const auto end = static_cast<uint32_t>(std::clamp<int64_t>(some.end, 0, lanes));
  return number >= begin && number < end ? value : Floats{};
}

template <int step, size_t... lane>
inline void swap_blocks(Words& a, Words& b, std::index_sequence<lane...>) {
  const Words low = __builtin_shufflevector(a, b, ((lane & step) ? lanes + lane - step : lane)...);
  b = __builtin_shufflevector(a, b, ((lane & step) ? lanes + lane : lane + step)...);
  a = low;
}
// Transposes lanes x lanes words in registers: blocks off the diagonal change places, in squares of 1, 2, 4, … words.
template <int step = 1>
inline void transpose(Words (&rows)[lanes]) {
#pragma GCC unroll 16
  for (int row = 0; row < lanes; row++)
    if ((row & step) == 0) swap_blocks<step>(rows[row], rows[row + step], std::make_index_sequence<lanes>());
  if constexpr (2 * step < lanes) transpose<2 * step>(rows);
}

// 2^x for x ≤ 126 within 2e-7, relative; below −126 it is 0; NaN stays NaN. x = n + r with |r| ≤ 1/2; 2^r by a
// polynomial of least greatest error (9e-8).
inline Floats power_of_two(Floats x) {
  const auto polynomial = [](Floats r) {
    Floats p = r * 1.3264727e-3f + 9.6715130e-3f;
    p = p * r + 5.5507336e-2f;
    p = p * r + 2.4022242e-1f;
    p = p * r + 6.9314700e-1f;
    return p * r + 1.0f;
  };
#if defined(__AVX512F__)
  const Floats n = _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(normal, polynomial(x - n), n);
#else
  const Floats shifted = x + 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer in the low bits
  const Floats scaled = floats_of(bits_of(polynomial(x - (shifted - 12582912.0f))) + (bits_of(shifted) << 23));
  return x < -126.0f ? Floats{} : x == x ? scaled : x;
#endif
}

}  // namespace llama_tp
