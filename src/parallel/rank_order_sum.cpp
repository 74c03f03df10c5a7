#include "parallel/rank_order_sum.h"

#include <array>

namespace llama_tp {

namespace {

inline float widen(float value) { return value; }
inline float widen(bf16 value) { return to_float(value); }
inline double widen(double value) { return value; }
inline void narrow(float value, float& to) { to = value; }
inline void narrow(double value, double& to) { to = value; }

// to_bf16 without a branch, so that the loop becomes vector instructions.
inline void narrow(float value, bf16& to) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  to.bits = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded);
}

// Sums live in a local block: it stays in registers or L1, and cannot overlap what the pointers name.
constexpr int64_t block_elements = 128;

template <class Element, class Sum>
inline void sum_block(std::span<const void* const> inputs, int64_t begin, int64_t count, Element* out) {
  std::array<Sum, block_elements> total;
  const auto first = static_cast<const Element*>(inputs[0]) + begin;
  for (int64_t i = 0; i < count; i++) total[static_cast<size_t>(i)] = widen(first[i]);
  for (size_t rank = 1; rank < inputs.size(); rank++) {
    const auto input = static_cast<const Element*>(inputs[rank]) + begin;
    for (int64_t i = 0; i < count; i++) total[static_cast<size_t>(i)] += widen(input[i]);
  }
  for (int64_t i = 0; i < count; i++) narrow(total[static_cast<size_t>(i)], out[begin + i]);
}

template <class Element, class Sum>
void sum(std::span<const void* const> inputs, int64_t elements, void* out) {
  const auto to = static_cast<Element*>(out);
  int64_t begin = 0;
  for (; begin + block_elements <= elements; begin += block_elements)
    sum_block<Element, Sum>(inputs, begin, block_elements, to);
  if (begin < elements) sum_block<Element, Sum>(inputs, begin, elements - begin, to);
}

}  // namespace

void sum_in_rank_order(std::span<const void* const> inputs, DType dtype, int64_t elements, void* out) {
  if (dtype == DType::f32) return sum<float, float>(inputs, elements, out);
  if (dtype == DType::bf16) return sum<bf16, float>(inputs, elements, out);
  if (dtype == DType::f64) return sum<double, double>(inputs, elements, out);
  fail("sums are made of F32, BF16 and F64, not ", name_of(dtype));
}

}  // namespace llama_tp
