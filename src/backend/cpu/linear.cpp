// Matrix products: oneDNN's where there are many tokens, the matrix-vector kernel where there are few. Each of the
// three is asked of oneDNN as it stands, with transposed views of what is stored, which costs little but for one: with a
// transposed first operand products in AMX's tiles take half as long again, so while its parts fit the caches dy is
// transposed in the workspace. Where the CPU has no bf16 products, operands are widened to f32 in the workspace. Both are done for some
// rows of w at a time.
#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/matrix_vector.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/transposed_copy.h"
#include "backend/cpu/vector.h"
#include "base/parts.h"

namespace llama_tp {

namespace {

// Of w, widened at a time: f32 rows that stay in a second-level cache between the widening and the product.
constexpr int64_t widened_rows = 128;
// Of dyᵀ, transposed at a time by each thread: the rest of a second-level cache is left for the product's other
// operands.
constexpr int64_t transposed_bytes = int64_t{1} << 20;
// For each part of dyᵀ oneDNN packs all of x, which fewer rows than these would not be worth.
constexpr int64_t fewest_transposed_rows = 512;

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

Product backward_weight_product(const Tensor& x, int64_t n, DType input, bool dy_as_stored) {
  return {.m = n,
          .n = x.shape[1],
          .k = x.shape[0],
          .input = input,
          .output = DType::f32,
          .a_transposed = dy_as_stored,
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
    const int64_t chunk = std::min(n, widened_rows);
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

// make(n) is the product for n of the rows that are done `chunk` at a time: the largest scratch that oneDNN wants for
// any of them.
template <class Make>
int64_t largest_workspace(OneDnn& onednn, int64_t rows, int64_t chunk, const Make& make) {
  int64_t bytes = onednn.workspace(make(std::min(rows, chunk)));
  if (rows > chunk && rows % chunk != 0) bytes = std::max(bytes, onednn.workspace(make(rows % chunk)));
  return bytes;
}

// Rows of dyᵀ, one for each of dw's, that lie in the caches until the product has read them.
int64_t rows_that_fit(int threads, int64_t tokens) {
  return threads * transposed_bytes / (tokens * int64_t{sizeof(bf16)});
}

// dyᵀ in parts of about the same number of rows, `chunk`.
struct Transposed {
  Transposed(void* workspace, int threads, int64_t tokens, int64_t rows, int64_t product_bytes) {
    constexpr int64_t granule = 64;  // rows that fill whole blocks of oneDNN's
    Scratch scratch(workspace);
    chunk = std::min(rows, round_up(parts_of(rows, parts_of(rows, rows_that_fit(threads, tokens))), granule));
    dy = scratch.take<bf16>(chunk * tokens);
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  int64_t chunk;
  bf16* dy;
  char* product;
  int64_t bytes;
};

}  // namespace

// ---- forward

int64_t CpuBackend::linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  if (empty(y)) return 0;
  if (x.shape[0] <= few_tokens) return matrix_vector_workspace(x);
  if (direct(x.dtype)) return onednn_->workspace(forward_product(x, w.shape[0], x.dtype, y.dtype, bias.exists()));
  const int64_t product = largest_workspace(*onednn_, w.shape[0], widened_rows, [&](int64_t n) {
    return forward_product(x, n, DType::f32, DType::f32, bias.exists());
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
  each_part(rows, widened_rows, [&](int64_t begin, int64_t n) {
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
      largest_workspace(*onednn_, w.shape[0], widened_rows,
                        [&](int64_t n) { return backward_input_product(dx, n, DType::f32, DType::f32, false); }),
      largest_workspace(*onednn_, w.shape[0], widened_rows,
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
  each_part(rows, widened_rows, [&](int64_t begin, int64_t n) {
    copy(threads_, n, k, View{w.as<bf16>() + begin * k, k}, wide.w);
    copy(threads_, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    onednn_->run(backward_input_product(dx, n, DType::f32, DType::f32, begin > 0), wide.y.data, wide.w.data, nullptr,
                 wide.x.data, wide.product);
  });
  copy(threads_, tokens, k, wide.x, View{dx.as<bf16>(), k});
}

// ---- backward: weight

bool CpuBackend::transposes(const Tensor& dy) const {
  return matrix_tiles_ && bf16_products_ && dy.dtype == DType::bf16 &&
         rows_that_fit(threads_, dy.shape[0]) >= fewest_transposed_rows;
}

int64_t CpuBackend::linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) {
  if (empty(dw) || empty(dy)) return 0;
  const int64_t tokens = x.shape[0], rows = dy.shape[1];
  const bool as_stored = !transposes(dy);
  const auto product = [&](int64_t chunk, DType input) {
    return largest_workspace(*onednn_, rows, chunk,
                             [&](int64_t n) { return backward_weight_product(x, n, input, as_stored); });
  };
  if (!as_stored) {
    const int64_t chunk = Transposed(nullptr, threads_, tokens, rows, 0).chunk;
    return Transposed(nullptr, threads_, tokens, rows, product(chunk, dy.dtype)).bytes;
  }
  if (direct(dy.dtype)) return product(rows, dy.dtype);
  return Widened(nullptr, tokens, x.shape[1], rows, product(widened_rows, DType::f32)).bytes;
}

void CpuBackend::run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) {
  if (empty(dw) || empty(dy)) return;
  const int64_t tokens = x.shape[0], k = x.shape[1], rows = dy.shape[1];
  const bool as_stored = !transposes(dy);
  const auto add = [&](int64_t begin, int64_t n, DType input, const void* dy_part, const void* x_all, void* scratch) {
    onednn_->run(backward_weight_product(x, n, input, as_stored), dy_part, x_all, nullptr, dw.as<float>() + begin * k,
                 scratch);
  };
  if (!as_stored) {
    const Transposed transposed(workspace, threads_, tokens, rows, 0);
    each_part(rows, transposed.chunk, [&](int64_t begin, int64_t n) {
      transposed_copy(threads_, dy.as<bf16>() + begin, rows, tokens, n, transposed.dy);
      add(begin, n, dy.dtype, transposed.dy, x.data, transposed.product);
    });
    return;
  }
  if (direct(dy.dtype)) return add(0, rows, dy.dtype, dy.data, x.data, workspace);
  const Widened wide(workspace, tokens, k, rows, 0);
  copy(threads_, tokens, k, View{x.as<bf16>(), k}, wide.x);
  each_part(rows, widened_rows, [&](int64_t begin, int64_t n) {
    copy(threads_, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    add(begin, n, DType::f32, wide.y.data, wide.x.data, wide.product);
  });
}

// ---- backward: bias

int64_t CpuBackend::bias_backward_workspace(const Tensor&, const Tensor&) { return 0; }

// A thread owns columns and adds their rows in order.
void CpuBackend::run_bias_backward(const Tensor& dy, const Tensor& db, void* /*workspace*/) {
  constexpr int64_t columns = 64;
  const int64_t tokens = dy.shape[0], n = dy.shape[1];
  with_type(dy.dtype, [&]<class Y>(Y) {
    each_row(threads_, parts_of(n, columns), tokens * columns, [&](int64_t block) {
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
