// y[T, N] = x[T, K] · w[N, K]ᵀ + bias[N] for a few tokens, as when generating: bound by reading w, which is read once,
// each thread the same rows every time.
#pragma once

#include "backend/tensor.h"

namespace llama_tp {

inline constexpr int64_t few_tokens = 8;  // the largest T; beyond it a matrix product is faster

int64_t matrix_vector_workspace(const Tensor& x);
// Types as in Backend::linear_forward.
void multiply_few(int threads, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, void* workspace);

}  // namespace llama_tp
