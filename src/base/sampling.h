// The arithmetic by which a token is chosen, for the CPU and for the kernel: both choose alike, bit for bit.
//
// A candidate is one word: its logit as an integer of the same order, then its id, so that the larger word is the
// likelier token, or of equal logits the lower id; no two are equal. Its weight, eˣ, is an integer in units of 2⁻⁴⁰, so
// that sums of weights are exact and the same in any order. Only IEEE operations, with products and sums joined where
// it is written and nowhere else.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/for_both.h"

namespace llama_tp {

// The integers of floats below 0 fall with their values: all bits of these are turned over, of others the sign.
LLAMA_TP_FOR_BOTH constexpr uint32_t ordered_bits(float value) {
  const auto bits = __builtin_bit_cast(uint32_t, value == 0 ? 0.0f : value);  // −0 is 0
  return bits ^ (bits >> 31 != 0 ? 0xffffffffu : 0x80000000u);
}

LLAMA_TP_FOR_BOTH constexpr uint64_t candidate_of(float logit, int64_t id) {
  return uint64_t{ordered_bits(logit)} << 32 | static_cast<uint32_t>(~id);
}
LLAMA_TP_FOR_BOTH constexpr int32_t id_of(uint64_t candidate) { return static_cast<int32_t>(~candidate & 0xffffffffu); }
LLAMA_TP_FOR_BOTH constexpr float logit_of(uint64_t candidate) {
  const auto bits = static_cast<uint32_t>(candidate >> 32);
  return __builtin_bit_cast(float, bits ^ (bits >> 31 != 0 ? 0x80000000u : 0xffffffffu));
}
// The least candidate with this logit or a larger one.
LLAMA_TP_FOR_BOTH constexpr uint64_t least_candidate(float logit) { return uint64_t{ordered_bits(logit)} << 32; }

LLAMA_TP_FOR_BOTH constexpr bool is_finite(float logit) {
  return (__builtin_bit_cast(uint32_t, logit) & 0x7f800000u) != 0x7f800000u;
}

LLAMA_TP_FOR_BOTH constexpr float penalized(float logit, float penalty) {
  return logit > 0 ? logit / penalty : logit * penalty;
}

constexpr int weight_bits = 40;
// A sum of so many weights of at most 1 fits 64 bits, too.
constexpr int64_t most_candidates = int64_t{1} << (63 - weight_bits);

// ⌊2⁴⁰ · e^((logit − largest) / temperature)⌋ within 3e-7 of it, relative; logit ≤ largest. With x = n ln 2 + r, |r| ≤
// ln 2 / 2, eʳ by its Taylor polynomial of degree 7 (remainder 5e-9).
LLAMA_TP_FOR_BOTH inline uint64_t weight_of(float logit, float largest, float temperature) {
  constexpr float to_integer = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer
  constexpr float log2_of_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  constexpr float least = -28.0f;  // e^least < 2⁻⁴⁰
  const float x = (logit - largest) / temperature;
  if (!(x >= least)) return 0;
  const float n = fmaf(x, log2_of_e, to_integer) - to_integer;
  const float r = fmaf(n, -ln2_low, fmaf(n, -ln2_high, x));
  float power = fmaf(r, 1.0f / 5040, 1.0f / 720);
  power = fmaf(power, r, 1.0f / 120);
  power = fmaf(power, r, 1.0f / 24);
  power = fmaf(power, r, 1.0f / 6);
  power = fmaf(power, r, 0.5f);
  power = fmaf(power, r, 1.0f);
  power = fmaf(power, r, 1.0f);
  const auto exponent = static_cast<uint32_t>(static_cast<int>(n) + weight_bits + 127) << 23;
  return static_cast<uint64_t>(power * __builtin_bit_cast(float, exponent));  // by a power of two: exact
}

// Candidates by falling order are kept until their weights sum to a share of all, or drawn where the sum first exceeds
// it: both are the first at which the sum is larger than a number.
LLAMA_TP_FOR_BOTH constexpr uint64_t below_reaching(float share, uint64_t total) {
  const double sum = static_cast<double>(share) * static_cast<double>(total);
  const auto whole = static_cast<uint64_t>(sum);
  return static_cast<double>(whole) < sum || whole == 0 ? whole : whole - 1;
}
LLAMA_TP_FOR_BOTH constexpr uint64_t below_exceeding(float share, uint64_t total) {
  return static_cast<uint64_t>(static_cast<double>(share) * static_cast<double>(total));
}

}  // namespace llama_tp

#undef LLAMA_TP_FOR_BOTH
