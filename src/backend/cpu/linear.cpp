// Matrix products: oneDNN's where there are many tokens, the matrix-vector kernel where there are few. Each of the
// three is asked of oneDNN as it stands, with transposed views of what is stored; on AVX512 that reaches within a tenth
// of the rate of explicit transposes. Where the CPU has no bf16 products, operands are widened to f32 in the workspace,
// some rows of w at a time.
#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/matrix_vector.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

namespace {

// Of w, widened at a time: f32 rows that stay in a second-level cache between the widening and the product.
constexpr int64_t chunk_rows = 128;

// y = x wᵀ, dx = dy w and dw += dyᵀ x, for rows of w or dw whose number may be less than all (n).
Product forward_product(const Tensor& x, int64_t n, DType input, DType output, bool bias) {
  return {.m = x.shape[0],
          .n = n,
          .k = x.shape[1],
          .input = input,
          .output = output,
          .a_transposed = false,
          .b_transposed = true,
          .bias = bias,
          .accumulate = false};
}

Product backward_input_product(const Tensor& dx, int64_t n, DType input, DType output, bool accumulate) {
  return {.m = dx.shape[0],
          .n = dx.shape[1],
          .k = n,
          .input = input,
          .output = output,
          .a_transposed = false,
          .b_transposed = false,
          .bias = false,
          .accumulate = accumulate};
}

Product backward_weight_product(const Tensor& x, int64_t n, DType input) {
  return {.m = n,
          .n = x.shape[1],
          .k = x.shape[0],
          .input = input,
          .output = DType::f32,
          .a_transposed = true,
          .b_transposed = false,
          .bias = false,
          .accumulate = true};
}

bool empty(const Tensor& y) { return y.elements() == 0; }

// Part of a matrix by columns, row after row.
template <class Element>
struct View {
  View() = default;
  View(Element* from, int64_t row_stride) : data(from), stride(row_stride) {}
  Element* data = nullptr;
  int64_t stride = 0;
};

template <class From, class To>
void copy(int threads, int64_t rows, int64_t columns, View<From> from, View<To> to) {
  each_row(threads, rows, columns, [&](int64_t row) {
    each_lanes(columns, [&](auto i) { store(to.data + row * to.stride, i, load(from.data + row * from.stride, i)); });
  });
}

// What the three widened products share: all of x (or dx), a chunk of w (or dw), and that chunk's columns of y (or
// dy), in f32, with oneDNN's scratch memory.
struct Widened {
  Widened(void* workspace, int64_t tokens, int64_t k, int64_t n, int64_t product_bytes) {
    Scratch scratch(workspace);
    const int64_t chunk = std::min(n, chunk_rows);
    x = {scratch.take<float>(tokens * k), k};
    w = {scratch.take<float>(chunk * k), k};
    y = {scratch.take<float>(tokens * chunk), chunk};
    bias = {scratch.take<float>(chunk), chunk};
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  View<float> x, w, y, bias;
  char* product;
  int64_t bytes;
};

// make(n) is the product for a chunk of n rows: the largest scratch that oneDNN wants for any of them.
template <class Make>
int64_t largest_workspace(OneDnn& onednn, int64_t n, const Make& make) {
  int64_t bytes = onednn.workspace(make(std::min(n, chunk_rows)));
  if (n > chunk_rows && n % chunk_rows != 0) bytes = std::max(bytes, onednn.workspace(make(n % chunk_rows)));
  return bytes;
}

template <class Body>
void each_chunk(int64_t n, const Body& body) {
  for (int64_t begin = 0; begin < n; begin += chunk_rows) body(begin, std::min(chunk_rows, n - begin));
}

}  // namespace

// ---- forward

int64_t CpuBackend::linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  if (empty(y)) return 0;
  if (x.shape[0] <= few_tokens) return matrix_vector_workspace(x);
  if (direct(x.dtype)) return onednn_->workspace(forward_product(x, w.shape[0], x.dtype, y.dtype, bias.exists()));
  const int64_t product = largest_workspace(
      *onednn_, w.shape[0], [&](int64_t n) { return forward_product(x, n, DType::f32, DType::f32, bias.exists()); });
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
  each_chunk(rows, [&](int64_t begin, int64_t n) {
    copy(threads_, n, k, View{w.as<bf16>() + begin * k, k}, wide.w);
    if (bias.exists()) copy(threads_, 1, n, View{bias.as<bf16>() + begin, n}, wide.bias);
    onednn_->run(forward_product(x, n, DType::f32, DType::f32, bias.exists()), wide.x.data, wide.w.data, wide.bias.data,
                 wide.y.data, wide.product);
    with_type(y.dtype, [&]<class Y>(Y) {
      copy(threads_, tokens, n, View{wide.y.data, n}, View{y.as<Y>() + begin, rows});
    });
  });
}

// ---- backward: input

int64_t CpuBackend::linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  if (empty(dx) || empty(dy)) return 0;
  if (direct(dy.dtype)) return onednn_->workspace(backward_input_product(dx, w.shape[0], dy.dtype, dx.dtype, false));
  // The first chunk writes, the later ones accumulate.
  const int64_t product = std::max(
      largest_workspace(*onednn_, w.shape[0],
                        [&](int64_t n) { return backward_input_product(dx, n, DType::f32, DType::f32, false); }),
      largest_workspace(*onednn_, w.shape[0],
                        [&](int64_t n) { return backward_input_product(dx, n, DType::f32, DType::f32, true); }));
  return Widened(nullptr, dx.shape[0], dx.shape[1], w.shape[0], product).bytes;
}

void CpuBackend::run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) {
  if (empty(dx)) return;
  const int64_t tokens = dx.shape[0], k = dx.shape[1], rows = w.shape[0];
  if (rows == 0) return run_zero(dx);
  if (direct(dy.dtype))
    return onednn_->run(backward_input_product(dx, rows, dy.dtype, dx.dtype, false), dy.data, w.data, nullptr, dx.data,
                        workspace);
  const Widened wide(workspace, tokens, k, rows, 0);
  each_chunk(rows, [&](int64_t begin, int64_t n) {
    copy(threads_, n, k, View{w.as<bf16>() + begin * k, k}, wide.w);
    copy(threads_, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    onednn_->run(backward_input_product(dx, n, DType::f32, DType::f32, begin > 0), wide.y.data, wide.w.data, nullptr,
                 wide.x.data, wide.product);
  });
  copy(threads_, tokens, k, wide.x, View{dx.as<bf16>(), k});
}

// ---- backward: weight

int64_t CpuBackend::linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) {
  if (empty(dw) || empty(dy)) return 0;
  if (direct(dy.dtype)) return onednn_->workspace(backward_weight_product(x, dy.shape[1], dy.dtype));
  const int64_t product =
      largest_workspace(*onednn_, dy.shape[1], [&](int64_t n) { return backward_weight_product(x, n, DType::f32); });
  return Widened(nullptr, x.shape[0], x.shape[1], dy.shape[1], product).bytes;
}

void CpuBackend::run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) {
  if (empty(dw) || empty(dy)) return;
  const int64_t tokens = x.shape[0], k = x.shape[1], rows = dy.shape[1];
  if (direct(dy.dtype))
    return onednn_->run(backward_weight_product(x, rows, dy.dtype), dy.data, x.data, nullptr, dw.data, workspace);
  const Widened wide(workspace, tokens, k, rows, 0);
  copy(threads_, tokens, k, View{x.as<bf16>(), k}, wide.x);
  each_chunk(rows, [&](int64_t begin, int64_t n) {
    copy(threads_, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    onednn_->run(backward_weight_product(x, n, DType::f32), wide.y.data, wide.x.data, nullptr,
                 dw.as<float>() + begin * k, wide.product);
  });
}

// ---- backward: bias

int64_t CpuBackend::bias_backward_workspace(const Tensor&, const Tensor&) { return 0; }

// A thread owns columns and adds their rows in order.
void CpuBackend::run_bias_backward(const Tensor& dy, const Tensor& db, void* /*workspace*/) {
  constexpr int64_t columns = 64;
  const int64_t tokens = dy.shape[0], n = dy.shape[1];
  with_type(dy.dtype, [&]<class Y>(Y) {
    each_row(threads_, (n + columns - 1) / columns, tokens * columns, [&](int64_t block) {
      const int64_t begin = block * columns;
      float* sums = db.as<float>() + begin;
      float added[columns] = {};
      for (int64_t t = 0; t < tokens; t++)
        each_lanes(std::min(columns, n - begin),
                   [&](auto i) { store(added, i, load(added, i) + load(dy.as<Y>() + t * n + begin, i)); });
      each_lanes(std::min(columns, n - begin), [&](auto i) { store(sums, i, load(sums, i) + load(added, i)); });
    });
  });
}

}  // namespace llama_tp
