// The loss of a vocabulary that is split over ranks (Shoeybi et al. 2019).
//
//   statistics[t] = {max, Σ exp(logit − max), the target's logit or −inf where another rank holds it}
//   lse[t] = {m, log Σ_ranks sum · exp(max − m)}, m the largest max
//   loss += Σ_t of both less the target's logit, over targets that are not ignored
//   dlogits = (softmax(logits) − onehot(target)) · scale; 0 in ignored rows and in padded columns
//
// logits: [T, V] f32, of which `columns` exist; targets: [T] i32; statistics: [T, 3] f32, gathered: [ranks, T, 3];
// lse: [T, 2] f32; loss: [1] f64; dlogits: [T, V] f32 (may be logits) or bf16. A block takes a token, each of its threads
// every 512th piece of 16 bytes of logits, with a maximum and a sum of its own that are joined at the end. Bound by
// memory: statistics read every logit once, backward reads and writes it once. −inf is a probability of 0; NaN stays
// visible as NaN.
#include "kernels/kernels.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 512, loss_threads = 1024;
constexpr float minus_infinity = -__builtin_huge_valf();

// What to subtract before exp: the maximum, but never −inf − (−inf).
__device__ __forceinline__ float shift_of(float maximum) { return maximum == minus_infinity ? 0.0f : maximum; }

// x is a difference of logits, and rounded as such; its product with log2 e is rounded once more, by as much.
__device__ __forceinline__ float exponential(float x) { return power_of_two(x * log2_of_e); }

struct StatisticsScratch {
  WarpValues<float> maxima, sums;
};

template <int n>
__global__ void __launch_bounds__(threads) cross_entropy_statistics_kernel(const float* logits, const int32_t* targets,
                                                                           LogitColumns columns, float* statistics) {
  auto& scratch = shared_memory<StatisticsScratch>();
  const float* const row = logits + blockIdx.x * columns.stride;
  float maximum = minus_infinity, sum = 0;
  each_piece<4, n>(row, thread_of_block() * n, static_cast<int>(columns.columns), threads * n,
                   [&](int i, float(&logit)[n]) {
                     float largest = maximum;
                     for (int j = 0; j < n; j++) {
                       if (i + j >= columns.columns) logit[j] = minus_infinity;  // padding
                       largest = fmaxf(largest, logit[j]);
                     }
                     const float shift = shift_of(largest);
                     sum *= exponential(maximum - shift);
                     for (int j = 0; j < n; j++) sum += exponential(logit[j] - shift);
                     maximum = largest;
                   });
  const float of_row = over_block<Largest>(maximum, scratch.maxima);
  const float total = block_sum(sum * exponential(maximum - shift_of(of_row)), scratch.sums);
  if (threadIdx.x != 0) return;
  const int64_t target = targets[blockIdx.x] - columns.first_column;
  float* const out = statistics + 3 * int64_t{blockIdx.x};
  out[0] = of_row;
  out[1] = total;
  out[2] = target >= 0 && target < columns.columns ? row[target] : minus_infinity;
}

struct LossScratch {
  WarpValues<double> sums;
};

// One block: a thread takes every 1024th token.
__global__ void __launch_bounds__(loss_threads)
    cross_entropy_loss_kernel(const float* gathered, const int32_t* targets, float* lse, double* loss, int64_t ranks,
                              int64_t tokens) {
  double sum_of_losses = 0;
  for (int64_t t = threadIdx.x; t < tokens; t += loss_threads) {
    const float* const first = gathered + 3 * t;
    const int64_t next = 3 * tokens;  // rank
    float maximum = minus_infinity, logit = minus_infinity;
    for (int64_t rank = 0; rank < ranks; rank++) {
      maximum = fmaxf(maximum, first[rank * next]);
      logit = fmaxf(logit, first[rank * next + 2]);
    }
    const float shift = shift_of(maximum);
    double sum = 0;
    for (int64_t rank = 0; rank < ranks; rank++)
      sum += first[rank * next + 1] * exp(static_cast<double>(first[rank * next]) - static_cast<double>(shift));
    const auto log_sum = static_cast<float>(log(sum));
    lse[2 * t] = shift;
    lse[2 * t + 1] = log_sum;
    if (targets[t] != ignored_label)
      sum_of_losses += static_cast<double>(shift) - static_cast<double>(logit) + static_cast<double>(log_sum);
  }
  const double total = over_block<Sum>(sum_of_losses, shared_memory<LossScratch>().sums);
  if (threadIdx.x == 0) *loss += total;
}

// A thread reads a logit before it writes in its place, and no other.
template <int n, class X>
__global__ void __launch_bounds__(threads)
    cross_entropy_backward_kernel(const float* logits, const int32_t* targets, const float* lse, LogitColumns columns,
                                  float scale, X* dlogits) {
  const int64_t first = blockIdx.x * columns.stride;
  const int32_t id = targets[blockIdx.x];
  const int64_t target = id - columns.first_column;
  const float largest = lse[2 * int64_t{blockIdx.x}], log_sum = lse[2 * int64_t{blockIdx.x} + 1];
  each_piece<4, n>(logits + first, thread_of_block() * n, static_cast<int>(columns.stride), threads * n,
                   [&](int i, float(&values)[n]) {
                     for (int j = 0; j < n; j++) {
                       const float gradient =
                           (exponential(values[j] - largest - log_sum) - (i + j == target ? 1.0f : 0.0f)) * scale;
                       values[j] = id != ignored_label && i + j < columns.columns ? gradient : 0;
                     }
                     store(dlogits + first + i, values);
                   });
}

}  // namespace

void cross_entropy_statistics(Stream stream, const float* logits, const int32_t* targets, const LogitColumns& columns,
                              float* statistics, int64_t tokens) {
  with_width<float>(columns.stride, {logits}, [&]<int n>() {
    launch(stream, "cross_entropy_statistics", grid_of("cross_entropy", tokens), threads, sizeof(StatisticsScratch),
           cross_entropy_statistics_kernel<n>, logits, targets, columns, statistics);
  });
}

void cross_entropy_loss(Stream stream, const float* gathered, const int32_t* targets, float* lse, double* loss,
                        int64_t ranks, int64_t tokens) {
  launch(stream, "cross_entropy_loss", {1}, loss_threads, sizeof(LossScratch), cross_entropy_loss_kernel, gathered,
         targets, lse, loss, ranks, tokens);
}

template <class X>
void cross_entropy_backward(Stream stream, const float* logits, const int32_t* targets, const float* lse,
                            const LogitColumns& columns, float scale, X* dlogits, int64_t tokens) {
  with_width<float>(columns.stride, {logits, dlogits}, [&]<int n>() {
    launch(stream, "cross_entropy_backward", grid_of("cross_entropy", tokens), threads, 0,
           cross_entropy_backward_kernel<n, X>, logits, targets, lse, columns, scale, dlogits);
  });
}

template void cross_entropy_backward(Stream, const float*, const int32_t*, const float*, const LogitColumns&, float,
                                     float*, int64_t);
template void cross_entropy_backward(Stream, const float*, const int32_t*, const float*, const LogitColumns&, float,
                                     bf16*, int64_t);

}  // namespace llama_tp::kernels
