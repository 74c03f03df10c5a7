// Our row-major products in cuBLASLt's column-major words.
//
// A dense row-major [R, C] is, read by columns, the dense column-major [C, R] of its transpose. So the transposes are
// asked for, and factors change places:
//
//   yᵀ[N, T]  = w · xᵀ          w row-major [N, K] is stored as [k, m]: A = w transposed; B = x     m, n, k = N, T, K
//   dxᵀ[K, T] = wᵀ · dyᵀ        A = w; B = dy                                                       m, n, k = K, T, N
//   dwᵀ[K, N] += xᵀ · dy        A = x; dy is stored as [n, k]: B = dy transposed                    m, n, k = K, N, T
//
// A bias of y[N] is then one value a row of yᵀ, which is what cuBLASLt adds.
#pragma once

#include <string>

#include "backend/tensor.h"

namespace llama_tp {

// Bytes of scratch that a product is given at most: enough for every algorithm that a Hopper's heuristic prefers
// (NVIDIA's own advice is 32 MiB).
constexpr int64_t most_product_workspace = int64_t{32} << 20;

// C[m, n] = op(A)[m, k] · op(B)[k, n] + beta · C + bias[m], all dense and column-major. A and B: `in`, f32 or bf16; C:
// `out`, that or f32. Sums run in f32 (of f32: without TF32). bias: of type `in`, needs out = in.
struct Product {
  DType in, out;
  bool transpose_a, transpose_b;  // A is stored as [k, m], B as [n, k]
  int64_t m, n, k;
  bool accumulate, bias;                             // beta = 1, else 0
  auto operator<=>(const Product&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 sees a 0 in it

  int64_t rows_of_a() const { return transpose_a ? k : m; }
  int64_t columns_of_a() const { return transpose_a ? m : k; }
  int64_t rows_of_b() const { return transpose_b ? n : k; }
  int64_t columns_of_b() const { return transpose_b ? k : n; }
};

// Transposes as BLAS writes them, and types: "TN bfloat16 + bias", "NT bfloat16 added to float32".
inline std::string kind_of(const Product& product) {
  return text(product.transpose_a ? 'T' : 'N', product.transpose_b ? 'T' : 'N', ' ', torch_name_of(product.in),
              product.bias ? " + bias" : "", product.accumulate ? " added" : "",
              product.accumulate || product.out != product.in ? text(" to ", torch_name_of(product.out)) : "");
}

// y[T, N] = x[T, K] · w[N, K]ᵀ + bias[N]:  A = w, B = x, C = y
inline Product forward_product(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  return {.in = x.dtype,
          .out = y.dtype,
          .transpose_a = true,
          .transpose_b = false,
          .m = w.shape[0],
          .n = x.shape[0],
          .k = w.shape[1],
          .accumulate = false,
          .bias = bias.exists()};
}

// dx[T, K] = dy[T, N] · w[N, K]:  A = w, B = dy, C = dx
inline Product backward_input_product(const Tensor& dy, const Tensor& w) {
  return {.in = dy.dtype,
          .out = dy.dtype,
          .transpose_a = false,
          .transpose_b = false,
          .m = w.shape[1],
          .n = dy.shape[0],
          .k = w.shape[0],
          .accumulate = false,
          .bias = false};
}

// dw[N, K] += dy[T, N]ᵀ · x[T, K]:  A = x, B = dy, C = dw
inline Product backward_weight_product(const Tensor& dy, const Tensor& x) {
  return {.in = x.dtype,
          .out = DType::f32,
          .transpose_a = false,
          .transpose_b = true,
          .m = x.shape[1],
          .n = dy.shape[1],
          .k = x.shape[0],
          .accumulate = true,
          .bias = false};
}

}  // namespace llama_tp
