#include "base/dtype.h"

#include <array>
#include <cmath>
#include <utility>

namespace llama_tp {

namespace {

constexpr std::array<std::pair<DType, std::string_view>, 10> names{{{DType::f32, "F32"},
                                                                    {DType::bf16, "BF16"},
                                                                    {DType::f16, "F16"},
                                                                    {DType::f64, "F64"},
                                                                    {DType::i64, "I64"},
                                                                    {DType::i32, "I32"},
                                                                    {DType::i16, "I16"},
                                                                    {DType::u16, "U16"},
                                                                    {DType::i8, "I8"},
                                                                    {DType::u8, "U8"}}};

constexpr std::array<std::pair<DType, std::string_view>, 3> torch_names{
    {{DType::f32, "float32"}, {DType::bf16, "bfloat16"}, {DType::f16, "float16"}}};

}  // namespace

std::string_view torch_name_of(DType dtype) {
  for (const auto& [type, name] : torch_names)
    if (type == dtype) return name;
  return "";
}

std::optional<DType> dtype_with_torch_name(std::string_view word) {
  if (word == "f32") return DType::f32;
  if (word == "bf16") return DType::bf16;
  for (const auto& [type, name] : torch_names)
    if (name == word) return type;
  return std::nullopt;
}

std::string_view name_of(DType dtype) {
  for (const auto& [type, name] : names)
    if (type == dtype) return name;
  return "?";
}

DType dtype_named(std::string_view safetensors_name) {
  for (const auto& [type, name] : names)
    if (name == safetensors_name) return type;
  fail("dtype ", safetensors_name, " is not one that this program reads; convert the file to F32, BF16 or F16");
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and above round to infinity
  if (magnitude < 0x38800000u)                          // below the least normal half, 2^-14: a multiple of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(std::fabs(value), 24))));
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

}  // namespace llama_tp
