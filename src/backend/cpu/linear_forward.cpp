// y = x wᵀ + bias: oneDNN's product where there are many tokens, the matrix-vector kernel where there are few. Where the CPU
// has no bf16 products, operands are widened to f32 in the workspace, for some rows of w at a time.
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/matrix_vector.h"

namespace llama_tp {

using namespace linear;

namespace {

// For n rows of w, all or some.
OneDnnProduct forward_product(const Tensor& x, int64_t n, DType input, DType output, bool bias) {
  OneDnnProduct product{.m = x.shape[0], .n = n, .k = x.shape[1], .input = input, .output = output};
  product.b_transposed = true;
  product.bias = bias;
  return product;
}

}  // namespace

int64_t CpuBackend::linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  if (empty(y)) return 0;
  if (x.shape[0] <= few_tokens) return matrix_vector_workspace(x);
  if (direct(x.dtype)) return onednn_->workspace(forward_product(x, w.shape[0], x.dtype, y.dtype, bias.exists()));
  const int64_t product = largest_workspace(*onednn_, [&](const auto& visit) {
    for (const int64_t n : widened_rows(w.shape[0]).sizes())
      visit(forward_product(x, n, DType::f32, DType::f32, bias.exists()));
  });
  return Widened(nullptr, x.shape[0], x.shape[1], w.shape[0], product).bytes;
}

void CpuBackend::run_linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                                    void* workspace) {
  if (empty(y)) return;
  if (x.shape[0] <= few_tokens) return multiply_few(threads_, x, w, bias, y, workspace);
  const int64_t tokens = x.shape[0], k = x.shape[1], rows = w.shape[0];
  if (direct(x.dtype))
    return onednn_->run(forward_product(x, rows, x.dtype, y.dtype, bias.exists()), x.data, w.data, bias.data, y.data,
                        workspace);
  const Widened wide(workspace, tokens, k, rows, 0);
  copy(threads_, tokens, k, View{x.as<bf16>(), k}, wide.x);
  widened_rows(rows).each([&](int64_t begin, int64_t n) {
    copy(threads_, n, k, View{w.as<bf16>() + begin * k, k}, wide.w);
    if (bias.exists()) copy(threads_, 1, n, View{bias.as<bf16>() + begin, n}, wide.bias);
    onednn_->run(forward_product(x, n, DType::f32, DType::f32, bias.exists()), wide.x.data, wide.w.data, wide.bias.data,
                 wide.y.data, wide.product);
    with_type(y.dtype, [&]<class Y>(Y) {
      copy(threads_, tokens, n, View{wide.y.data, n}, View{y.as<Y>() + begin, rows});
    });
  });
}

}  // namespace llama_tp
