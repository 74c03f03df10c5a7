// The multipliers of some families (Yang et al. 2022, in Granite's words); most have 1, which costs nothing.
#pragma once

#include "backend/arena.h"
#include "backend/backend.h"

namespace llama_tp {

// x *= factor
inline void multiply(Backend& backend, const Tensor& x, float factor) {
  if (factor != 1) backend.scale(x, factor, x);
}

// factor · x: x itself where the factor is 1, else taken from the frame.
inline Tensor multiplied(Frame& frame, Backend& backend, const Tensor& x, float factor) {
  if (factor == 1) return x;
  const Tensor y = frame.take(Category::transient, x.shape, x.dtype);
  backend.scale(x, factor, y);
  return y;
}

}  // namespace llama_tp
