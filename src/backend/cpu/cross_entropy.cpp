// The loss of a vocabulary that is split over ranks (Shoeybi et al. 2019). Each rank sums exponentials relative to its
// own maximum; cross_entropy_loss joins them. −inf takes part as a probability of 0; NaN stays visible as NaN.
#include <cmath>
#include <limits>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// What to subtract before exp: the maximum, but never −inf − (−inf).
float shift_of(float maximum) { return maximum == minus_infinity ? 0.0f : maximum; }

}  // namespace

void CpuBackend::run_cross_entropy_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column,
                                              int64_t columns, const Tensor& statistics) {
  const int64_t stride = logits.shape[1];
  each_row(threads_, logits.shape[0], 4 * columns, [&](int64_t t) {
    const float* row = logits.as<float>() + t * stride;
    const float maximum = largest_of(columns, [=](auto i) { return load(row, i); });
    const float shift = shift_of(maximum);
    const int64_t target = targets.as<int32_t>()[t] - first_column;
    float* out = statistics.as<float>() + 3 * t;
    out[0] = maximum;
    out[1] = sum_of(columns, [=](auto i) { return exponential(load(row, i) - shift); });
    out[2] = target >= 0 && target < columns ? row[target] : minus_infinity;
  });
}

void CpuBackend::run_cross_entropy_loss(const Tensor& gathered, const Tensor& targets, const Tensor& lse,
                                        const Tensor& loss) {
  const int64_t ranks = gathered.shape[0], tokens = targets.shape[0];
  const auto of_rank = [&](int64_t rank, int64_t t) { return gathered.as<float>() + (rank * tokens + t) * 3; };
  each_row(threads_, tokens, 100 * ranks, [&](int64_t t) {  // 100: an exp in f64, counted in elements of a copy
    float maximum = minus_infinity;
    for (int64_t rank = 0; rank < ranks; rank++) maximum = std::max(maximum, of_rank(rank, t)[0]);
    const float shift = shift_of(maximum);
    double sum = 0;
    for (int64_t rank = 0; rank < ranks; rank++)
      sum += of_rank(rank, t)[1] * std::exp(static_cast<double>(of_rank(rank, t)[0]) - static_cast<double>(shift));
    float* out = lse.as<float>() + 2 * t;
    out[0] = shift;
    out[1] = static_cast<float>(std::log(sum));
  });
  for (int64_t t = 0; t < tokens; t++) {
    if (targets.as<int32_t>()[t] == ignored_label) continue;
    float logit = minus_infinity;
    for (int64_t rank = 0; rank < ranks; rank++) logit = std::max(logit, of_rank(rank, t)[2]);
    const float* of = lse.as<float>() + 2 * t;
    *loss.as<double>() += static_cast<double>(of[0]) - static_cast<double>(logit) + static_cast<double>(of[1]);
  }
}

void CpuBackend::run_cross_entropy_backward(const Tensor& logits, const Tensor& targets, const Tensor& lse,
                                            int64_t first_column, int64_t columns, float scale, const Tensor& dlogits) {
  const int64_t stride = logits.shape[1];
  with_type(dlogits.dtype, [&]<class X>(X) {
    each_row(threads_, logits.shape[0], 4 * stride, [&](int64_t t) {
      const float* row = logits.as<float>() + t * stride;
      X* out = dlogits.as<X>() + t * stride;
      const int32_t id = targets.as<int32_t>()[t];
      if (id == ignored_label) {
        std::fill_n(out, stride, X{});
        return;
      }
      const float largest = lse.as<float>()[2 * t], log_sum = lse.as<float>()[2 * t + 1];
      const int64_t target = id - first_column;
      const bool here = target >= 0 && target < columns;
      const float logit = here ? row[target] : 0;  // before the row is written over
      each_lanes(columns, [=](auto i) {
        prefetch(row, i);
        store(out, i, exponential(load(row, i) - largest - log_sum) * scale);
      });
      std::fill_n(out + columns, stride - columns, X{});
      if (here) store(out + target, PartOfVector{0, 1}, all((fast_exp(logit - largest - log_sum) - 1.0f) * scale));
    });
  });
}

}  // namespace llama_tp
