// Element types, by safetensors' names, and the conversions of single values; whole arrays: base/convert_floats.h.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"

namespace llama_tp {

enum class DType : uint8_t { f32, bf16, f16, f64, i64, i32, i16, u16, i8, u8 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
    case DType::i16:
    case DType::u16:
      return 2;
    case DType::i8:
    case DType::u8:
      return 1;
  }
  return 0;
}

// "F32", "BF16", …: the words of the safetensors format.
std::string_view name_of(DType dtype);
// Errors: an unknown word.
DType dtype_named(std::string_view safetensors_name);

// "float32", "bfloat16", "float16": PyTorch's words for what a model computes in, which config.json and --dtype use. Of
// other types there is none: "".
std::string_view torch_name_of(DType dtype);
// Also "f32" and "bf16". None: another word.
std::optional<DType> dtype_with_torch_name(std::string_view word);

// The high half of a float (Google Brain's bfloat16).
struct bf16 {
  uint16_t bits = 0;
};

inline float to_float(bf16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

// Rounds to nearest, ties to even; NaN stays NaN.
inline bf16 to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace llama_tp
