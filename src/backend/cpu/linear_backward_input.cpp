// dx = dy w. Two things that oneDNN does slowly by itself are done in the workspace before it is called:
// - w is packed (packed_copy.h) by going along its rows. oneDNN would fetch it a few cache lines of each row at a time.
// - A product with a large w is a sum over blocks of its rows, for some tokens at a time, so that the operands stay in
//   the caches.
// Where the CPU has no bf16 products, operands are widened to f32.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/packed_copy.h"

namespace llama_tp {

using namespace linear;

namespace {

// In f32 a product takes so long that only the workspace counts.
Blocking blocks_of_weight(const Tensor& w) {
  const bool bf16 = w.dtype == DType::bf16;
  const int64_t small = int64_t{bf16 ? 4 : 16} << 20;
  return w.bytes() <= small ? whole(w.shape[0]) : in_blocks(w.shape[0], bf16 ? 1024 : 2048);
}

// How dx is made: from w as it is stored, or packed, in one block or several.
struct InputPlan {
  InputPlan(OneDnn& onednn, const Tensor& w, const Tensor& dx)
      : rows(blocks_of_weight(w)), tokens(whole(dx.shape[0])), columns(dx.shape[1]), dtype(w.dtype) {
    if (rows.several()) tokens = in_blocks(tokens.all, tokens_at_once);
    bool prefers = tokens.all >= fewest_packed_tokens;
    each_product([&](const OneDnnProduct& product) { prefers = prefers && onednn.prefers_packed(product); });
    packed = prefers;
    if (packed) return;
    rows = whole(rows.all);
    tokens = whole(tokens.all);
  }
  // For k rows of w, of which the first write and the others add.
  OneDnnProduct product(int64_t m, int64_t k, bool accumulate) const {
    OneDnnProduct product{.m = m, .n = columns, .k = k, .input = dtype, .output = rows.several() ? DType::f32 : dtype};
    product.b_packed = packed;
    product.accumulate = accumulate;
    return product;
  }
  template <class Visit>
  void each_product(const Visit& visit) const {
    for (const int64_t m : tokens.sizes())
      for (const int64_t k : rows.sizes()) {
        visit(product(m, k, false));
        if (rows.several()) visit(product(m, k, true));
      }
  }

  Blocking rows, tokens;  // of w; of dy and dx
  int64_t columns;
  DType dtype;
  bool packed = false;
};

struct InputScratch {
  InputScratch(void* workspace, const InputPlan& plan, int64_t product_bytes) {
    Scratch scratch(workspace);
    if (plan.packed) w = scratch.take<char>(packed_bytes(plan.dtype, plan.rows.size, plan.columns));
    if (plan.rows.several()) dy = scratch.take<char>(plan.tokens.size * plan.rows.size * size_of(plan.dtype));
    if (plan.rows.several() && plan.dtype == DType::bf16) sum = scratch.take<float>(plan.tokens.size * plan.columns);
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  char* w = nullptr;
  char* dy = nullptr;    // the columns that a block of w's rows meets
  float* sum = nullptr;  // dx until it is rounded
  char* product;
  int64_t bytes;
};

// n columns of dy, one row after another.
void gather_columns(int threads, const Tensor& dy, int64_t begin, int64_t n, char* to) {
  const int64_t element = size_of(dy.dtype), stride = dy.shape[1] * element, bytes = n * element;
  const char* const from = dy.as<char>() + begin * element;
  each_row(threads, dy.shape[0], n,
           [&](int64_t row) { std::memcpy(to + row * bytes, from + row * stride, static_cast<size_t>(bytes)); });
}

OneDnnProduct widened_input_product(const Tensor& dx, int64_t k, bool accumulate) {
  OneDnnProduct product{.m = dx.shape[0], .n = dx.shape[1], .k = k};
  product.accumulate = accumulate;
  return product;
}

int64_t widened_input_workspace(OneDnn& onednn, const Tensor& w, const Tensor& dx) {
  const int64_t product = largest_workspace(onednn, [&](const auto& visit) {
    for (const int64_t k : widened_rows(w.shape[0]).sizes())
      for (const bool accumulate : {false, true}) visit(widened_input_product(dx, k, accumulate));
  });
  return Widened(nullptr, dx.shape[0], dx.shape[1], w.shape[0], product).bytes;
}

void run_widened_input(OneDnn& onednn, int threads, const Tensor& dy, const Tensor& w, const Tensor& dx,
                       void* workspace) {
  const int64_t tokens = dx.shape[0], k = dx.shape[1], rows = w.shape[0];
  const Widened wide(workspace, tokens, k, rows, 0);
  widened_rows(rows).each([&](int64_t begin, int64_t n) {
    copy(threads, n, k, View{w.as<bf16>() + begin * k, k}, wide.w);
    copy(threads, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    onednn.run(widened_input_product(dx, n, begin > 0), wide.y.data, wide.w.data, nullptr, wide.x.data, wide.product);
  });
  copy(threads, tokens, k, wide.x, View{dx.as<bf16>(), k});
}

}  // namespace

int64_t CpuBackend::linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  if (empty(dx) || empty(dy)) return 0;
  if (!direct(dy.dtype)) return widened_input_workspace(*onednn_, w, dx);
  const InputPlan plan(*onednn_, w, dx);
  const int64_t product = largest_workspace(*onednn_, [&](const auto& visit) { plan.each_product(visit); });
  return InputScratch(nullptr, plan, product).bytes;
}

void CpuBackend::run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) {
  if (empty(dx)) return;
  if (w.shape[0] == 0) return run_zero(dx);
  if (!direct(dy.dtype)) return run_widened_input(*onednn_, threads_, dy, w, dx, workspace);
  const InputPlan plan(*onednn_, w, dx);
  const InputScratch scratch(workspace, plan, 0);
  const auto tokens = [&](const Tensor& own_dy, const Tensor& own_dx) {
    float* const sum = scratch.sum;
    plan.rows.each([&](int64_t begin, int64_t k) {
      if (plan.packed) packed_copy(threads_, w.rows(begin, k), scratch.w);
      if (scratch.dy != nullptr) gather_columns(threads_, own_dy, begin, k, scratch.dy);
      onednn_->run(plan.product(own_dx.shape[0], k, begin > 0), scratch.dy != nullptr ? scratch.dy : own_dy.data,
                   plan.packed ? scratch.w : w.data, nullptr, sum != nullptr ? sum : own_dx.data, scratch.product);
    });
    const int64_t columns = plan.columns;
    if (sum != nullptr) copy(threads_, own_dx.shape[0], columns, View{sum, columns}, View{own_dx.as<bf16>(), columns});
  };
  plan.tokens.each([&](int64_t begin, int64_t m) { tokens(dy.rows(begin, m), dx.rows(begin, m)); });
}

}  // namespace llama_tp
