// Rows of f32 or bf16, seen as lanes of floats, so that a kernel reads like its formula and is vectorized for certain:
//   each_lanes(n, [&](auto i) { store(y, i, load(x, i) * scale * load(w, i)); });
// `i` is a whole vector, or the part that is left at the end of a row. Built on the vector types of g++ and clang++,
// which any processor can run; only the width follows the target.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__SSE__)
#include <immintrin.h>
#else
#include <cmath>
#endif

#include "backend/cpu/math.h"
#include "base/dtype.h"

namespace llama_tp {

#if defined(__AVX512F__)
#define LLAMA_TP_VECTOR_BYTES 64
#elif defined(__AVX__)
#define LLAMA_TP_VECTOR_BYTES 32
#else
#define LLAMA_TP_VECTOR_BYTES 16
#endif
inline constexpr int lanes = LLAMA_TP_VECTOR_BYTES / 4;
typedef float Floats __attribute__((vector_size(LLAMA_TP_VECTOR_BYTES)));
typedef uint32_t Words __attribute__((vector_size(LLAMA_TP_VECTOR_BYTES)));
typedef uint16_t HalfWords __attribute__((vector_size(LLAMA_TP_VECTOR_BYTES / 2)));
#undef LLAMA_TP_VECTOR_BYTES

// Where in a row: `lanes` elements from `begin`, or the fewer that are left.
struct Whole {
  int64_t begin;
};
struct PartOfVector {
  int64_t begin, count;
};

template <class Kernel>
void each_lanes(int64_t n, const Kernel& kernel) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) kernel(Whole{i});
  if (i < n) kernel(PartOfVector{i, n - i});
}

// Lanes past the end of a part are loaded as 0.
template <class Vector, class Element>
Vector load_bits(const Element* row, Whole i) {
  Vector value;
  std::memcpy(&value, row + i.begin, sizeof value);
  return value;
}
template <class Vector, class Element>
Vector load_bits(const Element* row, PartOfVector i) {
  Vector value{};
  std::memcpy(&value, row + i.begin, static_cast<size_t>(i.count) * sizeof(Element));
  return value;
}
template <class Vector, class Element>
void store_bits(Element* row, Whole i, Vector value) {
  std::memcpy(static_cast<void*>(row + i.begin), &value, sizeof value);
}
template <class Vector, class Element>
void store_bits(Element* row, PartOfVector i, Vector value) {
  std::memcpy(static_cast<void*>(row + i.begin), &value, static_cast<size_t>(i.count) * sizeof(Element));
}

inline Words bits_of(Floats value) { return reinterpret_cast<Words>(value); }
inline Floats floats_of(Words bits) { return reinterpret_cast<Floats>(bits); }

// Sixteen bits to thirty-two and back. g++ 12 takes AVX512's vectors apart where one instruction does; its forms with a
// mask are those that it does not warn of.
inline Words widened(HalfWords bits) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(bits)));
#else
  return __builtin_convertvector(bits, Words);
#endif
}
inline HalfWords narrowed(Words bits) {
#if defined(__AVX512F__)
  return reinterpret_cast<HalfWords>(_mm512_maskz_cvtepi32_epi16(0xffff, reinterpret_cast<__m512i>(bits)));
#else
  return __builtin_convertvector(bits, HalfWords);
#endif
}

inline Floats floats_of_bf16(HalfWords bits) { return floats_of(widened(bits) << 16); }
// As to_bf16 in base/dtype.h: to nearest, ties to even; NaN stays NaN. The instruction takes a quarter of the time, and
// denormals (below 1.2e-38) for 0.
inline HalfWords round_to_bf16(Floats value) {
#if defined(__AVX512F__) && defined(__AVX512BF16__)
  return reinterpret_cast<HalfWords>(_mm512_cvtneps_pbh(value));
#else
  const Words bits = bits_of(value), high = bits >> 16;
  const Words rounded = (bits + (0x7fffu + (high & 1u))) >> 16;
  return narrowed(value == value ? rounded : high | 0x40u);
#endif
}

template <class Where>
Floats load(const float* row, Where i) {
  return load_bits<Floats>(row, i);
}
template <class Where>
Floats load(const bf16* row, Where i) {
  return floats_of_bf16(load_bits<HalfWords>(row, i));
}
template <class Where>
void store(float* row, Where i, Floats value) {
  store_bits(row, i, value);
}
template <class Where>
void store(bf16* row, Where i, Floats value) {
  store_bits(row, i, round_to_bf16(value));
}

// Of a stream that does not come from the caches: what lies 2 KiB behind element i. Processors alone keep too few reads
// in flight.
template <class Element, class Where>
void prefetch(const Element* row, Where i) {
  __builtin_prefetch(reinterpret_cast<const char*>(row + i.begin) + 2048);
}

// Every lane the same.
inline Floats all(float value) { return value - Floats{}; }
inline Floats largest(Floats a, Floats b) { return a > b ? a : b; }

// eˣ, as fast_exp has it; NaN gives NaN. Without AVX512 compilers turn the loop into vector instructions that never
// leave the registers.
inline Floats exponential(Floats x) {
#if defined(__AVX512F__)
  const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.3f), _CMP_NLT_UQ);
  x = x > 89.0f ? all(89.0f) : x;  // whose power overflows to infinity; infinity itself would leave no remainder
  const Floats n = _mm512_maskz_roundscale_ps(0xffff, x * log2_of_e, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return _mm512_maskz_scalef_ps(normal, exponential_near_0((x - n * ln2_high) - n * ln2_low), n);
#else
  float values[lanes];
  std::memcpy(values, &x, sizeof x);
#pragma omp simd
  for (int lane = 0; lane < lanes; lane++) values[lane] = fast_exp(values[lane]);
  std::memcpy(&x, values, sizeof x);
  return x;
#endif
}

// g++ and clang++ have no square root of a vector type; a loop over lanes is vectorized only if math need not set
// errno.
inline Floats square_root(Floats value) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(0xffff, value);
#elif defined(__AVX__)
  return _mm256_sqrt_ps(value);
#elif defined(__SSE__)
  return _mm_sqrt_ps(value);
#else
  for (int lane = 0; lane < lanes; lane++) value[lane] = std::sqrt(value[lane]);
  return value;
#endif
}

// The lanes of one vector joined to a number, in halves.
template <class Join>
float across(Floats values, const Join& join) {
  for (int half = lanes / 2; half > 0; half /= 2) {
    Floats upper = values;
    for (int lane = 0; lane < half; lane++) upper[lane] = values[lane + half];
    values = join(values, upper);
  }
  return values[0];
}
inline Floats sum(Floats a, Floats b) { return a + b; }

// Σ or max of term(i) over a row: four running vectors (one addition waits for the one before it), then one by one.
inline Floats kept(Whole, Floats value, float /*otherwise*/) { return value; }
inline Floats kept(PartOfVector i, Floats value, float otherwise) {
  for (int64_t lane = i.count; lane < lanes; lane++) value[lane] = otherwise;
  return value;
}
template <class Term, class Join>
float reduce(int64_t n, float start, const Term& term, const Join& join) {
  Floats a = all(start), b = a, c = a, d = a;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a = join(a, term(Whole{i}));
    b = join(b, term(Whole{i + lanes}));
    c = join(c, term(Whole{i + 2 * lanes}));
    d = join(d, term(Whole{i + 3 * lanes}));
  }
  for (; i + lanes <= n; i += lanes) a = join(a, term(Whole{i}));
  if (i < n) b = join(b, kept(PartOfVector{i, n - i}, term(PartOfVector{i, n - i}), start));
  return across(join(join(a, b), join(c, d)), join);
}
template <class Term>
float sum_of(int64_t n, const Term& term) {
  return reduce(n, 0.0f, term, sum);
}
template <class Term>
float largest_of(int64_t n, const Term& term) {
  return reduce(n, -__builtin_inff(), term, largest);
}

}  // namespace llama_tp
