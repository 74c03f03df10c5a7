// From the type that a tensor says at run time to the type that code is compiled for.
#pragma once

#include "base/dtype.h"

namespace llama_tp {

// Calls kernel(float{}) or kernel(bf16{}), whichever dtype says; the operation's front has refused all others.
template <class Kernel>
void with_type(DType dtype, const Kernel& kernel) {
  if (dtype == DType::bf16)
    kernel(bf16{});
  else
    kernel(float{});
}

}  // namespace llama_tp
