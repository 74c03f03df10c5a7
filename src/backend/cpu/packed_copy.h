// The second operand of a matrix product in the order in which oneDNN's code reads it: blocks of 64 columns one after
// another, in each of them words of 32 bits row after row. A word is a float, or two bf16 that lie above each other. Both
// sides are filled up with zeros, to whole blocks and to 16 rows of words. (oneDNN's BA16a64b and BA16a64b2a.)
#pragma once

#include <cstdint>

#include "backend/tensor.h"

namespace llama_tp {

int64_t packed_bytes(DType dtype, int64_t rows, int64_t columns);

// from: [rows, columns], f32 or bf16.
void packed_copy(int threads, const Tensor& from, void* to);

}  // namespace llama_tp
