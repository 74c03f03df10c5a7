// The sum that every collective makes: over the ranks, in their order, in f32 (f64 for f64), rounded once.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace llama_tp {

// out[i] = ((inputs[0][i] + inputs[1][i]) + inputs[2][i]) + …, i < elements. Each element's bits depend on the inputs
// alone, not on where a caller cuts the work. `out` may be one of the inputs.
// dtype: f32, bf16 (added in f32, rounded to nearest even once) or f64. Errors: another dtype.
void sum_in_rank_order(std::span<const void* const> inputs, DType dtype, int64_t elements, void* out);

}  // namespace llama_tp
