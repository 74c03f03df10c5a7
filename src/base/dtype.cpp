#include "base/dtype.h"

#include <array>
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

}  // namespace llama_tp
