// What operations ask of their tensors, and how much they move. Included by their checks alone.
#pragma once

#include "backend/backend.h"

namespace llama_tp {

inline void expect(bool condition, Operation operation, const char* what) {
  if (!condition) fail(name_of(operation), ": ", what, " (a bug of the caller; please report it)");
}

inline double bytes_of(std::initializer_list<const Tensor*> tensors) {
  double sum = 0;
  for (const Tensor* tensor : tensors) sum += static_cast<double>(tensor->bytes());
  return sum;
}

inline double elements_of(const Tensor& tensor) { return static_cast<double>(tensor.elements()); }

inline bool is_matrix(const Tensor& tensor, int64_t rows, int64_t columns) {
  return tensor.shape == Shape{rows, columns};
}

inline bool is_like(const Tensor& tensor, const Tensor& other) {
  return tensor.shape == other.shape && tensor.dtype == other.dtype;
}

inline bool is_activation(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

}  // namespace llama_tp
