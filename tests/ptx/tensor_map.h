// What stands in a CUtensorMap here: what cuTensorMapEncodeTiled was told.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace llama_tp::ptx {

struct TensorMap {
  uint64_t from, sizes[3], strides[2];  // strides in bytes, of all dimensions but the innermost
  uint32_t box[3];
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

}  // namespace llama_tp::ptx
