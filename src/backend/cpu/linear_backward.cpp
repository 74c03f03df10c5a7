// dx = dy w, dw += dyᵀ x and db += Σ dy. What oneDNN's products do slowly by themselves is done in the workspace before
// they are called:
// - Their second operand, w or x, is packed (packed_copy.h) by going along its rows. oneDNN would fetch it a few cache
//   lines of each row at a time, and again for each part of a product that is done in parts.
// - dx is the sum over parts of w's rows where w is large, so that the operands of each part stay in the caches.
// - With a transposed first operand products in AMX's tiles take half as long again: while its parts fit the caches, dy
//   is transposed, for some rows of dw at a time.
// - Where the CPU has no bf16 products, operands are widened to f32.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/packed_copy.h"
#include "backend/cpu/transposed_copy.h"

namespace llama_tp {

namespace {

// Fewer tokens do not pay for packing.
constexpr int64_t fewest_packed_tokens = 256;

// `rows` in about equal parts of about `most`, whole blocks of oneDNN's.
int64_t rows_of_part(int64_t rows, int64_t most) {
  constexpr int64_t granule = 64;
  return std::min(rows, round_up(parts_of(rows, parts_of(rows, most)), granule));
}

// ---- input

// Rows of w that are packed at a time. The part, and as many columns of dy, are to stay in the caches; in f32 the product
// takes so long that only the workspace counts.
int64_t rows_packed_at_once(const Tensor& w) {
  const bool bf16 = w.dtype == DType::bf16;
  const int64_t whole = int64_t{bf16 ? 4 : 16} << 20, part = bf16 ? 1024 : 2048;
  return w.bytes() <= whole ? w.shape[0] : rows_of_part(w.shape[0], part);
}

// How dx is made: from all of w as it is stored, or from parts of its rows, packed.
struct InputPlan {
  InputPlan(OneDnn& onednn, const Tensor& w, const Tensor& dx)
      : m(dx.shape[0]), n(dx.shape[1]), all_rows(w.shape[0]), rows(rows_packed_at_once(w)), dtype(w.dtype) {
    const auto prefers = [&](int64_t k) { return k == 0 || onednn.prefers_packed(product(k, false)); };
    packed = m >= fewest_packed_tokens && prefers(rows) && prefers(all_rows % rows);
    if (!packed) rows = all_rows;
  }
  bool several() const { return rows < all_rows; }
  // For k rows of w, of which the first write and the others add.
  Product product(int64_t k, bool accumulate) const {
    Product product{.m = m, .n = n, .k = k, .input = dtype, .output = several() ? DType::f32 : dtype};
    product.b_packed = packed;
    product.accumulate = accumulate;
    return product;
  }
  int64_t m, n, all_rows, rows;  // rows: of w, at a time
  DType dtype;
  bool packed = false;
};

struct InputScratch {
  InputScratch(void* workspace, const InputPlan& plan, int64_t product_bytes) {
    Scratch scratch(workspace);
    if (plan.packed) w = scratch.take<char>(packed_bytes(plan.dtype, plan.rows, plan.n));
    if (plan.several()) dy = scratch.take<char>(plan.m * plan.rows * size_of(plan.dtype));
    if (plan.several() && plan.dtype == DType::bf16) sum = scratch.take<float>(plan.m * plan.n);
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  char* w = nullptr;
  char* dy = nullptr;    // the columns that a part of w's rows meets
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

Product widened_input_product(const Tensor& dx, int64_t k, bool accumulate) {
  Product product{.m = dx.shape[0], .n = dx.shape[1], .k = k};
  product.accumulate = accumulate;
  return product;
}

int64_t widened_input_workspace(OneDnn& onednn, const Tensor& w, const Tensor& dx) {
  const auto product = [&](bool accumulate) {
    return largest_workspace(onednn, w.shape[0], widened_rows,
                             [&](int64_t n) { return widened_input_product(dx, n, accumulate); });
  };
  return Widened(nullptr, dx.shape[0], dx.shape[1], w.shape[0], std::max(product(false), product(true))).bytes;
}

void run_widened_input(OneDnn& onednn, int threads, const Tensor& dy, const Tensor& w, const Tensor& dx,
                       void* workspace) {
  const int64_t tokens = dx.shape[0], k = dx.shape[1], rows = w.shape[0];
  const Widened wide(workspace, tokens, k, rows, 0);
  each_part(rows, widened_rows, [&](int64_t begin, int64_t n) {
    copy(threads, n, k, View{w.as<bf16>() + begin * k, k}, wide.w);
    copy(threads, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    onednn.run(widened_input_product(dx, n, begin > 0), wide.y.data, wide.w.data, nullptr, wide.x.data, wide.product);
  });
  copy(threads, tokens, k, wide.x, View{dx.as<bf16>(), k});
}

// ---- weight

// Of dyᵀ, transposed at a time by each thread: the rest of a second-level cache is left for the product's other
// operands.
constexpr int64_t transposed_bytes = int64_t{1} << 20;
// Fewer rows than these are not worth a product of their own.
constexpr int64_t fewest_transposed_rows = 512;

// Rows of dyᵀ, one for each of dw's, that lie in the caches until the product has read them.
int64_t rows_that_fit(int threads, int64_t tokens) {
  return threads * transposed_bytes / (tokens * int64_t{sizeof(bf16)});
}

// For n rows of dw, all or some.
Product weight_product(const Tensor& x, int64_t n, DType input, bool dy_transposed) {
  Product product{.m = n, .n = x.shape[1], .k = x.shape[0], .input = input, .output = DType::f32};
  product.a_transposed = !dy_transposed;  // as stored it is the transpose of what the product wants
  product.accumulate = true;
  return product;
}

// How dw is made: all rows at once from dy as it is stored, or some at a time from its transpose.
struct WeightPlan {
  WeightPlan(OneDnn& onednn, int threads, bool transposes, const Tensor& dy, const Tensor& x_all)
      : x(x_all), transposed(transposes) {
    rows = transposed ? rows_of_part(dy.shape[1], rows_that_fit(threads, dy.shape[0])) : dy.shape[1];
    packed = x.shape[0] >= fewest_packed_tokens && onednn.prefers_packed(product(rows));
  }
  Product product(int64_t n) const {
    Product product = weight_product(x, n, x.dtype, transposed);
    product.b_packed = packed;
    return product;
  }
  const Tensor& x;
  int64_t rows = 0;  // of dw, at a time
  bool transposed, packed = false;
};

struct WeightScratch {
  WeightScratch(void* workspace, const WeightPlan& plan, int64_t product_bytes) {
    Scratch scratch(workspace);
    const int64_t tokens = plan.x.shape[0];
    if (plan.transposed) dy = scratch.take<bf16>(plan.rows * tokens);
    if (plan.packed) x = scratch.take<char>(packed_bytes(plan.x.dtype, tokens, plan.x.shape[1]));
    product = scratch.take<char>(product_bytes);
    bytes = scratch.used();
  }
  bf16* dy = nullptr;
  char* x = nullptr;
  char* product;
  int64_t bytes;
};

int64_t widened_weight_workspace(OneDnn& onednn, const Tensor& dy, const Tensor& x) {
  const int64_t product = largest_workspace(onednn, dy.shape[1], widened_rows,
                                            [&](int64_t n) { return weight_product(x, n, DType::f32, false); });
  return Widened(nullptr, x.shape[0], x.shape[1], dy.shape[1], product).bytes;
}

void run_widened_weight(OneDnn& onednn, int threads, const Tensor& dy, const Tensor& x, const Tensor& dw,
                        void* workspace) {
  const int64_t tokens = x.shape[0], k = x.shape[1], rows = dy.shape[1];
  const Widened wide(workspace, tokens, k, rows, 0);
  copy(threads, tokens, k, View{x.as<bf16>(), k}, wide.x);
  each_part(rows, widened_rows, [&](int64_t begin, int64_t n) {
    copy(threads, tokens, n, View{dy.as<bf16>() + begin, rows}, View{wide.y.data, n});
    onednn.run(weight_product(x, n, DType::f32, false), wide.y.data, wide.x.data, nullptr, dw.as<float>() + begin * k,
               wide.product);
  });
}

}  // namespace

// ---- input

int64_t CpuBackend::linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  if (empty(dx) || empty(dy)) return 0;
  if (!direct(dy.dtype)) return widened_input_workspace(*onednn_, w, dx);
  const InputPlan plan(*onednn_, w, dx);
  const auto bytes = [&](bool accumulate) {
    return largest_workspace(*onednn_, w.shape[0], plan.rows, [&](int64_t k) { return plan.product(k, accumulate); });
  };
  return InputScratch(nullptr, plan, std::max(bytes(false), plan.several() ? bytes(true) : 0)).bytes;
}

void CpuBackend::run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) {
  if (empty(dx)) return;
  if (w.shape[0] == 0) return run_zero(dx);
  if (!direct(dy.dtype)) return run_widened_input(*onednn_, threads_, dy, w, dx, workspace);
  const InputPlan plan(*onednn_, w, dx);
  const InputScratch scratch(workspace, plan, 0);
  void* const sum = scratch.sum != nullptr ? scratch.sum : dx.data;
  each_part(w.shape[0], plan.rows, [&](int64_t begin, int64_t k) {
    if (plan.packed) packed_copy(threads_, w.rows(begin, k), scratch.w);
    if (plan.several()) gather_columns(threads_, dy, begin, k, scratch.dy);
    onednn_->run(plan.product(k, begin > 0), plan.several() ? scratch.dy : dy.data, plan.packed ? scratch.w : w.data,
                 nullptr, sum, scratch.product);
  });
  if (scratch.sum != nullptr) copy(threads_, plan.m, plan.n, View{scratch.sum, plan.n}, View{dx.as<bf16>(), plan.n});
}

// ---- weight

bool CpuBackend::transposes(const Tensor& dy) const {
  return matrix_tiles_ && bf16_products_ && dy.dtype == DType::bf16 &&
         rows_that_fit(threads_, dy.shape[0]) >= fewest_transposed_rows;
}

int64_t CpuBackend::linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) {
  if (empty(dw) || empty(dy)) return 0;
  if (!direct(dy.dtype)) return widened_weight_workspace(*onednn_, dy, x);
  const WeightPlan plan(*onednn_, threads_, transposes(dy), dy, x);
  const int64_t bytes = largest_workspace(*onednn_, dy.shape[1], plan.rows, [&](int64_t n) { return plan.product(n); });
  return WeightScratch(nullptr, plan, bytes).bytes;
}

void CpuBackend::run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) {
  if (empty(dw) || empty(dy)) return;
  if (!direct(dy.dtype)) return run_widened_weight(*onednn_, threads_, dy, x, dw, workspace);
  const WeightPlan plan(*onednn_, threads_, transposes(dy), dy, x);
  const WeightScratch scratch(workspace, plan, 0);
  if (plan.packed) packed_copy(threads_, x, scratch.x);
  each_part(dy.shape[1], plan.rows, [&](int64_t begin, int64_t n) {
    if (plan.transposed) transposed_copy(threads_, dy.as<bf16>() + begin, dy.shape[1], dy.shape[0], n, scratch.dy);
    onednn_->run(plan.product(n), plan.transposed ? scratch.dy : dy.data, plan.packed ? scratch.x : x.data, nullptr,
                 dw.rows(begin, n).data, scratch.product);
  });
}

// ---- bias

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
