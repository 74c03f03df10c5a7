#include "base/convert_floats.h"

#include <bit>
#include <cstring>

namespace llama_tp {

namespace {

struct F32 {
  using Bits = float;
  static float load(Bits value) { return value; }
  static Bits store(float value) { return value; }
};

struct BF16 {
  using Bits = uint16_t;
  static float load(Bits bits) { return to_float(bf16{bits}); }
  static Bits store(float value) { return to_bf16(value).bits; }
};

struct F16 {
  using Bits = uint16_t;

  // Shifted into a float's place the half is 2^-112 of itself, subnormals included; infinity and NaN come out from 2^16
  // on.
  static float load(Bits bits) {
    const float magnitude = std::bit_cast<float>(uint32_t{bits & 0x7fffu} << 13) * 0x1p112f;
    const uint32_t special = magnitude >= 0x1p16f ? 0x7f800000u : 0u;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | special | (uint32_t{bits & 0x8000u} << 16));
  }

  // Below 2^-14 a half is a multiple of 2^-24: the unit of a float in [0.5, 1), so adding 0.5 rounds there.
  static Bits store(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value), magnitude = bits & 0x7fffffffu, sign = (bits >> 16) & 0x8000u;
    const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    return static_cast<Bits>(sign | (magnitude >= 0x477ff000u ? large : magnitude < 0x38800000u ? small : normal));
  }
};

template <class From, class To>
void convert_all(const void* from, void* to, int64_t count) {
  const auto* source = static_cast<const typename From::Bits*>(from);
  auto* target = static_cast<typename To::Bits*>(to);
#pragma omp simd
  for (int64_t i = 0; i < count; i++) target[i] = To::store(From::load(source[i]));
}

using Conversion = void (*)(const void*, void*, int64_t);

Conversion conversion(DType from, DType to) {
  if (from == DType::f32 && to == DType::bf16) return convert_all<F32, BF16>;
  if (from == DType::f32 && to == DType::f16) return convert_all<F32, F16>;
  if (from == DType::bf16 && to == DType::f32) return convert_all<BF16, F32>;
  if (from == DType::bf16 && to == DType::f16) return convert_all<BF16, F16>;
  if (from == DType::f16 && to == DType::f32) return convert_all<F16, F32>;
  if (from == DType::f16 && to == DType::bf16) return convert_all<F16, BF16>;
  return nullptr;
}

}  // namespace

bool converts(DType from, DType to) { return from == to || conversion(from, to) != nullptr; }

void convert_floats(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count) {
  require(converts(from_dtype, to_dtype), "cannot convert ", name_of(from_dtype), " to ", name_of(to_dtype),
          "; F32, BF16 and F16 convert into each other");
  if (count <= 0) return;
  if (from_dtype == to_dtype)
    std::memcpy(to, from, static_cast<size_t>(count * size_of(to_dtype)));
  else
    conversion(from_dtype, to_dtype)(from, to, count);
}

}  // namespace llama_tp
