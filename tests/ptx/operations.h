// What arithmetic instructions compute of one lane's values, each rounded as its instruction says: to the nearest even,
// where nothing else is said.
#pragma once

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/error.h"

namespace llama_tp::ptx {

struct Same {
  auto operator()(auto a) const { return a; }
};
struct Negate {
  auto operator()(auto a) const { return -a; }
};
struct Absolute {
  auto operator()(auto a) const { return std::abs(a); }
};
struct Invert {
  auto operator()(auto a) const { return static_cast<decltype(a)>(~a); }
};
struct SquareRoot {
  auto operator()(auto a) const { return std::sqrt(a); }
};
struct Inverse {
  auto operator()(auto a) const { return 1 / a; }
};
struct Saturate {
  auto operator()(auto a) const { return a > 0 ? std::min(a, decltype(a){1}) : 0; }
};
struct Add {
  auto operator()(auto a, auto b) const { return static_cast<decltype(a)>(a + b); }
};
struct Subtract {
  auto operator()(auto a, auto b) const { return static_cast<decltype(a)>(a - b); }
};
struct Multiply {
  auto operator()(auto a, auto b) const { return static_cast<decltype(a)>(a * b); }
};
struct And {
  auto operator()(auto a, auto b) const { return static_cast<decltype(a)>(a & b); }
};
struct Or {
  auto operator()(auto a, auto b) const { return static_cast<decltype(a)>(a | b); }
};
struct Xor {
  auto operator()(auto a, auto b) const { return static_cast<decltype(a)>(a ^ b); }
};
struct Not {
  auto operator()(auto a, auto) const { return ~a; }
};
struct Least {
  auto operator()(auto a, auto b) const { return std::min(a, b); }
};
struct Most {
  auto operator()(auto a, auto b) const { return std::max(a, b); }
};
struct Fused {
  auto operator()(auto a, auto b, auto c) const { return std::fma(a, b, c); }
};

// The number of a number and a NaN.
struct LeastOfFloats {
  auto operator()(auto a, auto b) const { return std::fmin(a, b); }
};
struct MostOfFloats {
  auto operator()(auto a, auto b) const { return std::fmax(a, b); }
};

struct Divide {
  auto operator()(auto a, auto b) const {
    if constexpr (std::is_integral_v<decltype(a)>) require(b != 0, "a division by 0");
    return static_cast<decltype(a)>(a / b);
  }
};
struct Remainder {
  auto operator()(auto a, auto b) const {
    require(b != 0, "a division by 0");
    return static_cast<decltype(a)>(a % b);
  }
};

// Factors as wide as the instruction's type, the product twice.
struct MultiplyWide {
  int64_t operator()(int32_t a, int32_t b) const { return int64_t{a} * b; }
  uint64_t operator()(uint32_t a, uint32_t b) const { return uint64_t{a} * b; }
  uint32_t operator()(uint16_t a, uint16_t b) const { return uint32_t{a} * b; }
  int32_t operator()(int16_t a, int16_t b) const { return int32_t{a} * b; }
};
struct MultiplyHigh {
  int32_t operator()(int32_t a, int32_t b) const { return static_cast<int32_t>(int64_t{a} * b >> 32); }
  uint32_t operator()(uint32_t a, uint32_t b) const { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }
};
struct MultiplyAdd {
  auto operator()(auto a, auto b, auto c) const {
    return static_cast<decltype(c)>(static_cast<decltype(c)>(a) * b + c);
  }
};
// The exact product, rounded once, toward minus infinity.
struct FusedDown {
  float operator()(float a, float b, float c) const {
    std::fesetround(FE_DOWNWARD);
    volatile float x = a;
    volatile const float result = std::fma(x, b, c);
    std::fesetround(FE_TONEAREST);
    return result;
  }
};

// More than all bits: all of them are shifted out.
struct ShiftLeft {
  auto operator()(auto a, uint32_t by) const { return static_cast<decltype(a)>(by >= 8 * sizeof a ? 0 : a << by); }
};
struct ShiftRight {
  auto operator()(auto a, uint32_t by) const {
    return static_cast<decltype(a)>(a >> std::min<uint32_t>(by, 8 * sizeof a - 1) >> (by >= 8 * sizeof a ? 1 : 0));
  }
};

struct Equal {
  bool operator()(auto a, auto b) const { return a == b; }
};
struct Unequal {
  bool operator()(auto a, auto b) const { return a < b || a > b; }
};
struct Less {
  bool operator()(auto a, auto b) const { return a < b; }
};
struct LessOrEqual {
  bool operator()(auto a, auto b) const { return a <= b; }
};
struct Greater {
  bool operator()(auto a, auto b) const { return a > b; }
};
struct GreaterOrEqual {
  bool operator()(auto a, auto b) const { return a >= b; }
};
struct BothNumbers {
  bool operator()(auto a, auto b) const { return a == a && b == b; }
};
template <class Opposite>  // true, too, where one is no number
struct Unordered {
  bool operator()(auto a, auto b) const { return !Opposite{}(a, b); }
};

// Toward zero, to the nearest that the type has.
template <class To>
struct Truncate {
  To operator()(auto a) const {
    if (a != a) return 0;
    if (a <= static_cast<decltype(a)>(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (a >= static_cast<decltype(a)>(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    return static_cast<To>(a);
  }
};

struct Nearest {
  int32_t operator()(float a) const { return Truncate<int32_t>{}(std::nearbyint(a)); }
};

inline float flushed(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.f, value) : value; }
struct PowerOfTwo {
  float operator()(float a) const { return flushed(std::exp2(flushed(a))); }
};
struct ApproximateInverse {
  float operator()(float a) const { return flushed(1 / flushed(a)); }
};
struct InverseOfUpperHalf {  // rcp.approx.ftz.f64: of the upper 32 bits of a number, the lower ones are 0
  double operator()(double a) const {
    const auto upper = [](double x) { return std::bit_cast<double>(std::bit_cast<uint64_t>(x) & 0xffffffff00000000u); };
    return upper(1 / upper(a));
  }
};

inline uint32_t bf16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (value != value) return 0x7fff;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
struct PairOfBf16 {  // the first operand is the upper half
  uint32_t operator()(float a, float b) const { return bf16_of(a) << 16 | bf16_of(b); }
};

}  // namespace llama_tp::ptx
