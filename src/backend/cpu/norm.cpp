// Norms, forward and backward, of whole rows and of the heads in a row. A row is read from memory once: what is read
// again still lies in the nearest cache. Sums run in f32; a value of type x is rounded once, when it is stored.
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"
#include "base/parts.h"

namespace llama_tp {

namespace {

// dw and db are summed over blocks of rows first, then over the blocks in order. The size is part of the result.
constexpr int64_t rows_a_block = 32;

// Of a copy, for each element: the row is gone through twice, backwards with four arrays.
constexpr int64_t forward_work = 2, backward_work = 4;

struct RowStatistics {
  float mean = 0, scale = 0;  // scale: 1/rms or 1/deviation
};

void save(const RowStatistics& row, const NormOptions& options, const Tensor& statistics, int64_t t) {
  if (options.kind.centers) {
    statistics.as<float>()[2 * t] = row.mean;
    statistics.as<float>()[2 * t + 1] = row.scale;
  } else {
    statistics.as<float>()[t] = row.scale;
  }
}

RowStatistics saved(const NormOptions& options, const Tensor& statistics, int64_t t) {
  const float* values = statistics.as<float>();
  return options.kind.centers ? RowStatistics{values[2 * t], values[2 * t + 1]} : RowStatistics{0, values[t]};
}

template <class X>
RowStatistics statistics_of(const X* x, int64_t hidden, const NormOptions& options) {
  const auto n = static_cast<float>(hidden);
  RowStatistics row;
  if (options.kind.centers) row.mean = sum_of(hidden, [&](auto i) { return load(x, i); }) / n;
  const float squares = sum_of(hidden, [&](auto i) {
    const Floats value = load(x, i) - row.mean;
    return value * value;
  });
  row.scale = 1.0f / std::sqrt(squares / n + options.epsilon);
  return row;
}

// Apart and never inlined, so that norm_forward and norm_apply run the very same instructions.
template <class X>
[[gnu::noinline]] void apply(const X* x, const X* w, const X* b, const NormOptions& options, RowStatistics row, X* y,
                             int64_t hidden) {
  const float offset = options.kind.offset;
  const auto scaled = [&](auto i) { return (load(x, i) - row.mean) * row.scale * (offset + load(w, i)); };
  if (b == nullptr)
    each_lanes(hidden, [&](auto i) { store(y, i, scaled(i)); });
  else
    each_lanes(hidden, [&](auto i) { store(y, i, scaled(i) + load(b, i)); });
}

// One row: dx = before + scale · (g − mean(g) − x̂ · mean(g · x̂)) with g = dy · (offset + w) and x̂ = (x − mean) ·
// scale; without centring there is no mean(g). dw += dy · x̂, db += dy. before: absent where it is null. dx may be dy or
// before.
template <class X>
void backward_row(const X* dy, const X* x, const X* w, const NormOptions& options, RowStatistics row, const X* before,
                  X* dx, float* dw, float* db, int64_t hidden) {
  const float offset = options.kind.offset;
  const auto n = static_cast<float>(hidden);
  const auto normalized = [&](auto i) { return (load(x, i) - row.mean) * row.scale; };
  const auto gradient = [&](auto i) { return load(dy, i) * (offset + load(w, i)); };
  Floats with_x{}, with_one{};  // lanes past the end add 0, since dy is 0 there
  each_lanes(hidden, [&](auto i) {
    const Floats g = gradient(i);
    with_x += g * normalized(i);
    with_one += g;
  });
  const float along_x = across(with_x, sum) / n;
  const float along_one = options.kind.centers ? across(with_one, sum) / n : 0.0f;
  // All loads come before the first store: a load whose address agrees with a fresh store in its low twelve bits, as
  // rows of whole pages do, would wait for it.
  each_lanes(hidden, [&](auto i) {
    const Floats x_hat = normalized(i), d = load(dy, i);
    const Floats change = row.scale * (gradient(i) - along_one - x_hat * along_x);
    const Floats dx_sum = before == nullptr ? change : load(before, i) + change;
    const Floats dw_sum = load(dw, i) + d * x_hat;
    if (db != nullptr) store(db, i, load(db, i) + d);
    store(dx, i, dx_sum);
    store(dw, i, dw_sum);
  });
}

int64_t blocks_of(int64_t rows) { return ceil_div(rows, rows_a_block); }

// total[i] += Σ_block partial[block, i], in the order of the blocks.
void add_blocks(int threads, const float* partial, int64_t blocks, int64_t stride, float* total, int64_t hidden) {
  const auto columns = [&](Range range, int) {
    for (int64_t block = 0; block < blocks; block++) {
      const float* from = partial + block * stride + range.begin;
      float* to = total + range.begin;
      each_lanes(range.end - range.begin, [&](auto i) { store(to, i, load(to, i) + load(from, i)); });
    }
  };
  parallel_ranges(threads_for(blocks * hidden, threads), hidden, 64, columns);
}

}  // namespace

void CpuBackend::run_norm_forward(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                                  const Tensor& y, const Tensor& statistics) {
  const int64_t hidden = x.shape[1];
  with_type(x.dtype, [&]<class X>(X) {
    each_row(threads_, x.shape[0], forward_work * hidden, [&](int64_t t) {
      const X* row = x.as<X>() + t * hidden;
      const RowStatistics of_row = statistics_of(row, hidden, options);
      save(of_row, options, statistics, t);
      apply(row, w.as<X>(), b.as<X>(), options, of_row, y.as<X>() + t * hidden, hidden);
    });
  });
}

void CpuBackend::run_add_norm_forward(const Tensor& part, const Tensor& residual, const Tensor& w, const Tensor& b,
                                      const NormOptions& options, const Tensor& sum, const Tensor& y,
                                      const Tensor& statistics) {
  const int64_t hidden = part.shape[1];
  with_type(part.dtype, [&]<class X>(X) {
    each_row(threads_, part.shape[0], forward_work * hidden, [&](int64_t t) {
      const X* added = part.as<X>() + t * hidden;
      const X* to = residual.as<X>() + t * hidden;
      X* row = sum.as<X>() + t * hidden;
      each_lanes(hidden, [&](auto i) { store(row, i, load(to, i) + load(added, i)); });
      // From the rounded sum, since that is what backward and norm_apply will see.
      const RowStatistics of_row = statistics_of(row, hidden, options);
      save(of_row, options, statistics, t);
      apply(row, w.as<X>(), b.as<X>(), options, of_row, y.as<X>() + t * hidden, hidden);
    });
  });
}

void CpuBackend::run_norm_apply(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                                const Tensor& statistics, const Tensor& y) {
  const int64_t hidden = x.shape[1];
  with_type(x.dtype, [&]<class X>(X) {
    each_row(threads_, x.shape[0], forward_work * hidden, [&](int64_t t) {
      apply(x.as<X>() + t * hidden, w.as<X>(), b.as<X>(), options, saved(options, statistics, t),
            y.as<X>() + t * hidden, hidden);
    });
  });
}

int64_t CpuBackend::norm_backward_workspace(const Tensor& dy, const NormOptions& options) {
  return blocks_of(dy.shape[0]) * dy.shape[1] * (options.kind.centers ? 2 : 1) * size_of(DType::f32);
}

void CpuBackend::run_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w, const NormOptions& options,
                                   const Tensor& statistics, const Tensor& dx, const Tensor& dw, const Tensor& db,
                                   void* workspace) {
  const int64_t tokens = dy.shape[0], hidden = dy.shape[1], blocks = blocks_of(tokens);
  const bool with_bias = options.kind.centers && db.exists();
  const int64_t stride = with_bias ? 2 * hidden : hidden;  // a block's partial dw, then its partial db
  auto* partial = static_cast<float*>(workspace);
  with_type(dy.dtype, [&]<class X>(X) {
    each_row(threads_, blocks, backward_work * rows_a_block * hidden, [&](int64_t block) {
      float* block_dw = partial + block * stride;
      float* block_db = with_bias ? block_dw + hidden : nullptr;
      std::fill_n(block_dw, stride, 0.0f);
      for (int64_t t = block * rows_a_block; t < std::min(tokens, (block + 1) * rows_a_block); t++)
        backward_row(dy.as<X>() + t * hidden, x.as<X>() + t * hidden, w.as<X>(), options, saved(options, statistics, t),
                     dx.as<X>() + t * hidden, dx.as<X>() + t * hidden, block_dw, block_db, hidden);
    });
  });
  add_blocks(threads_, partial, blocks, stride, dw.as<float>(), hidden);
  if (with_bias) add_blocks(threads_, partial + hidden, blocks, stride, db.as<float>(), hidden);
}

namespace {

// Where the heads of a token lie in the packed row: those of q, of k, and what is behind them.
struct PackedHeads {
  PackedHeads(const Tensor& qkv, const HeadNorms& norms)
      : dim(norms.q.shape[0]),
        width(qkv.shape[1]),
        queries(norms.heads),
        normed(queries + (width / dim - queries) / 2),
        options{NormKind::rms, norms.epsilon} {}
  int64_t dim, width, queries, normed;
  NormOptions options;
};

}  // namespace

void CpuBackend::run_head_norm_forward(const Tensor& qkv, const HeadNorms& norms, const Tensor& y) {
  const PackedHeads heads(qkv, norms);
  with_type(qkv.dtype, [&]<class X>(X) {
    each_row(threads_, qkv.shape[0], forward_work * heads.width, [&](int64_t t) {
      const X* from = qkv.as<X>() + t * heads.width;
      X* to = y.as<X>() + t * heads.width;
      for (int64_t head = 0; head < heads.normed; head++, from += heads.dim, to += heads.dim) {
        const X* w = (head < heads.queries ? norms.q : norms.k).as<X>();
        apply<X>(from, w, nullptr, heads.options, statistics_of(from, heads.dim, heads.options), to, heads.dim);
      }
      if (to != from) std::copy_n(from, heads.width - heads.normed * heads.dim, to);
    });
  });
}

int64_t CpuBackend::head_norm_backward_workspace(const Tensor& qkv, const HeadNorms& norms) {
  return blocks_of(qkv.shape[0]) * 2 * norms.q.shape[0] * size_of(DType::f32);
}

void CpuBackend::run_head_norm_backward(const Tensor& qkv, const HeadNorms& norms, const Tensor& dqkv, const Tensor& dq,
                                        const Tensor& dk, void* workspace) {
  const PackedHeads heads(qkv, norms);
  const int64_t tokens = qkv.shape[0], blocks = blocks_of(tokens), stride = 2 * heads.dim;  // partial dq, then dk
  auto* partial = static_cast<float*>(workspace);
  with_type(qkv.dtype, [&]<class X>(X) {
    each_row(threads_, blocks, backward_work * rows_a_block * heads.width, [&](int64_t block) {
      float* sums = partial + block * stride;
      std::fill_n(sums, stride, 0.0f);
      for (int64_t t = block * rows_a_block; t < std::min(tokens, (block + 1) * rows_a_block); t++)
        for (int64_t head = 0; head < heads.normed; head++) {
          const bool query = head < heads.queries;
          const X* x = qkv.as<X>() + t * heads.width + head * heads.dim;
          X* dx = dqkv.as<X>() + t * heads.width + head * heads.dim;
          backward_row<X>(dx, x, (query ? norms.q : norms.k).as<X>(), heads.options,
                          statistics_of(x, heads.dim, heads.options), nullptr, dx, query ? sums : sums + heads.dim,
                          nullptr, heads.dim);
        }
    });
  });
  add_blocks(threads_, partial, blocks, stride, dq.as<float>(), heads.dim);
  add_blocks(threads_, partial + heads.dim, blocks, stride, dk.as<float>(), heads.dim);
}

}  // namespace llama_tp
