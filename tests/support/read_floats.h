#pragma once

#include <string>
#include <vector>

#include "io/safetensors.h"

namespace llama_tp {

// A part of a file's tensor.
inline std::vector<float> read_floats(const SafetensorsFile& file, const std::string& name, Region region) {
  std::vector<float> values(static_cast<size_t>(region.rows() * region.columns()));
  file.read(*file.find(name), region, DType::f32, values.data());
  return values;
}

}  // namespace llama_tp
