// An f32 in two 16-bit halves of which the high one is a usable bf16: bits(value) = (bits(high) << 16) + rest, where
// high is the value rounded half up, so that rest fits a signed 16-bit integer. Nothing is lost: a bf16 weight and its
// rest are an f32 master weight.
#pragma once

#include <bit>

#include "base/dtype.h"

namespace llama_tp {

struct SplitFloat {
  bf16 high;
  int16_t rest = 0;
};

inline SplitFloat split(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), high = (bits + 0x8000u) >> 16;
  return {{static_cast<uint16_t>(high)}, static_cast<int16_t>(static_cast<uint16_t>(bits - (high << 16)))};
}

inline float join(SplitFloat parts) {
  return std::bit_cast<float>((uint32_t{parts.high.bits} << 16) + static_cast<uint32_t>(int32_t{parts.rest}));
}

}  // namespace llama_tp
