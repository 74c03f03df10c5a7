// Contents for what is timed. Zeros would do for the arithmetic, but on a GPU products of zeros take less power and run
// faster than any real ones.
#pragma once

#include "backend/backend.h"

namespace llama_tp {

// Numbers between −0.5 and 0.5, the same in every run. tensor: f32 or bf16; one without memory is left alone.
void fill(Backend& backend, const Tensor& tensor);

}  // namespace llama_tp
