// Which algorithm computes a product fastest, found by running those that cuBLASLt names for it on this device, in turns.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/cublas_lt.h"

namespace llama_tp {

// The library's first algorithm, unless another is faster again and again by more than noise. Operands are random
// numbers in memory of their own, which is given back. Errors: there is no such memory.
TunedProduct tune_product(Backend& backend, CublasLt& library, kernels::Stream stream, const Product& product);

}  // namespace llama_tp
