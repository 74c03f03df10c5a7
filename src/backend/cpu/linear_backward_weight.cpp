// dw += dyᵀ x and db += Σ dy. Two things that oneDNN does slowly by itself are done in the workspace before it is called,
// for some tokens at a time:
// - x is packed (packed_copy.h) by going along its rows. oneDNN would do it again for each block of the rows of dw.
// - dy is transposed, for some rows of dw at a time: with a transposed first operand products in AMX's tiles take half
//   as long again.
// Where the CPU has no bf16 products, operands are widened to f32.
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/packed_copy.h"
#include "backend/cpu/transposed_copy.h"

namespace llama_tp {

using namespace linear;

namespace {

// Of dyᵀ, transposed at a time by each thread: the rest of a second-level cache is left for the product's other
// operands.
constexpr int64_t transposed_bytes = int64_t{1} << 20;

// Rows of dyᵀ, one for each of dw's, that lie in the caches until the product has read them.
int64_t rows_that_fit(int threads, int64_t tokens) {
  return threads * transposed_bytes / (tokens * int64_t{sizeof(bf16)});
}

// The part of dw [m, columns] that k tokens add. As it is stored dy is the transpose of the first operand.
OneDnnProduct weight_product(int64_t m, int64_t columns, int64_t k, DType input, bool dy_transposed, bool x_packed) {
  OneDnnProduct product{.m = m, .n = columns, .k = k, .input = input, .output = DType::f32};
  product.a_transposed = !dy_transposed;
  product.b_packed = x_packed;
  product.accumulate = true;
  return product;
}

// How dw is made: from dy as it is stored, all rows at once, or transposed, some at a time; from x as it is or packed.
struct WeightPlan {
  WeightPlan(OneDnn& onednn, int threads, bool transposes, const Tensor& dy, const Tensor& x)
      : tokens(in_blocks(x.shape[0], tokens_at_once)),
        rows(whole(dy.shape[1])),
        columns(x.shape[1]),
        dtype(x.dtype),
        transposed(transposes) {
    if (transposed) rows = in_blocks(rows.all, rows_that_fit(threads, tokens.size));
    bool prefers = tokens.all >= fewest_packed_tokens;
    each_product([&](const OneDnnProduct& product) { prefers = prefers && onednn.prefers_packed(product); });
    packed = prefers;
    if (!packed && !transposed) tokens = whole(tokens.all);
  }
  OneDnnProduct product(int64_t m, int64_t k) const { return weight_product(m, columns, k, dtype, transposed, packed); }
  template <class Visit>
  void each_product(const Visit& visit) const {
    for (const int64_t m : rows.sizes())
      for (const int64_t k : tokens.sizes()) visit(product(m, k));
  }

  Blocking tokens, rows;  // of dy and x; of dw
  int64_t columns;
  DType dtype;
  bool transposed, packed = false;
};

struct WeightScratch {
  WeightScratch(void* workspace, const WeightPlan& plan, int64_t product_bytes) {
    Scratch scratch(workspace);
    if (plan.transposed) dy = scratch.take<bf16>(plan.rows.size * plan.tokens.size);
    if (plan.packed) x = scratch.take<char>(packed_bytes(plan.dtype, plan.tokens.size, plan.columns));
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  bf16* dy = nullptr;  // transposed
  char* x = nullptr;   // packed
  char* product;
  int64_t bytes;
};

int64_t widened_weight_workspace(OneDnn& onednn, const Tensor& dy, const Tensor& x) {
  const int64_t product = largest_workspace(onednn, [&](const auto& visit) {
    for (const int64_t n : widened_rows(dy.shape[1]).sizes())
      visit(weight_product(n, x.shape[1], x.shape[0], DType::f32, false, false));
  });
  return Widened(nullptr, x.shape[0], x.shape[1], dy.shape[1], product).bytes;
}

void run_widened_weight(OneDnn& onednn, int threads, const Tensor& dy, const Tensor& x, const Tensor& dw,
                        void* workspace) {
  const int64_t tokens = x.shape[0], k = x.shape[1], rows = dy.shape[1];
  const Widened wide(workspace, tokens, k, rows, 0);
  copy(threads, tokens, k, View{x.as<bf16>(), k}, wide.x);
  widened_rows(rows).each([&](int64_t begin, int64_t n) {
    copy(threads, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    onednn.run(weight_product(n, x.shape[1], x.shape[0], DType::f32, false, false), wide.y.data, wide.x.data, nullptr,
               dw.as<float>() + begin * k, wide.product);
  });
}

}  // namespace

// ---- weight

int64_t CpuBackend::linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) {
  if (empty(dw) || empty(dy)) return 0;
  if (!direct(dy.dtype)) return widened_weight_workspace(*onednn_, dy, x);
  const WeightPlan plan(*onednn_, threads_, transposes(dy.dtype), dy, x);
  const int64_t product = largest_workspace(*onednn_, [&](const auto& visit) { plan.each_product(visit); });
  return WeightScratch(nullptr, plan, product).bytes;
}

void CpuBackend::run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) {
  if (empty(dw) || empty(dy)) return;
  if (!direct(dy.dtype)) return run_widened_weight(*onednn_, threads_, dy, x, dw, workspace);
  const WeightPlan plan(*onednn_, threads_, transposes(dy.dtype), dy, x);
  const WeightScratch scratch(workspace, plan, 0);
  const auto add = [&](const Tensor& own_dy, const Tensor& own_x) {
    const int64_t tokens = own_x.shape[0];
    if (plan.packed) packed_copy(threads_, own_x, scratch.x);
    plan.rows.each([&](int64_t begin, int64_t m) {
      if (plan.transposed) transposed_copy(threads_, own_dy.as<bf16>() + begin, plan.rows.all, tokens, m, scratch.dy);
      onednn_->run(plan.product(m, tokens), plan.transposed ? scratch.dy : own_dy.data,
                   plan.packed ? scratch.x : own_x.data, nullptr, dw.rows(begin, m).data, scratch.product);
    });
  };
  plan.tokens.each([&](int64_t begin, int64_t count) { add(dy.rows(begin, count), x.rows(begin, count)); });
}

// ---- bias

int64_t CpuBackend::bias_backward_workspace(const Tensor&, const Tensor&) { return 0; }

// A thread owns columns and adds their rows in order.
void CpuBackend::run_bias_backward(const Tensor& dy, const Tensor& db, void* /*workspace*/) {
  constexpr int64_t columns = 64;
  const int64_t tokens = dy.shape[0], n = dy.shape[1];
  with_type(dy.dtype, [&]<class Y>(Y) {
    each_row(threads_, ceil_div(n, columns), tokens * columns, [&](int64_t block) {
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
