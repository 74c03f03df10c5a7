// Softmax while its scores come tile by tile (FlashAttention-2: Dao 2023), in the registers in which tensor cores leave
// sixteen rows (kernels/tiles.h: Sums). Each thread has elements of two rows, lane/4 and 8 below it.
#pragma once

#include "kernels/attention.h"
#include "kernels/ptx.h"

namespace llama_tp::kernels {

struct RunningSoftmax {
  float largest[2] = {lowest_score, lowest_score};
  float total[2] = {0, 0};  // of this thread's elements; its three neighbours have the rest
};

// The largest or the sum over the four lanes that share a row.
__device__ __forceinline__ float largest_of_row(float value) {
  value = fmaxf(value, exchange(value, 1));
  return fmaxf(value, exchange(value, 2));
}
__device__ __forceinline__ float sum_of_row(float value) {
  value += exchange(value, 1);
  return value + exchange(value, 2);
}

// Scores of keys that the row does not see become −∞.
template <int parts>
__device__ __forceinline__ void hide(float (&scores)[parts][4], const Sequence& sequence, int first_query,
                                     int first_key, int64_t window) {
  replace_hidden(scores, minus_infinity, first_query, first_key,
                 [&](int query) { return sequence.visible(query, window); });
}

// What two rows of sums are multiplied by.
struct RowFactors {
  float of[2];
};

// Scores become probabilities relative to the largest score so far. Returns what brings the sums before them to it.
template <int parts>
__device__ __forceinline__ RowFactors softmax(float (&scores)[parts][4], float scale, RunningSoftmax& running) {
  RowFactors factors;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float largest = running.largest[half];
    for (int j = 0; j < parts; j++) largest = fmaxf(largest, fmaxf(scores[j][2 * half], scores[j][2 * half + 1]));
    largest = largest_of_row(largest);
    const float offset = largest * scale;
    factors.of[half] = power_of_two((running.largest[half] - largest) * scale);
    running.largest[half] = largest;
    running.total[half] *= factors.of[half];
    for (int j = 0; j < parts; j++)
      for (int i = 2 * half; i < 2 * half + 2; i++) {
        scores[j][i] = power_of_two(scores[j][i] * scale - offset);
        running.total[half] += scores[j][i];
      }
  }
  return factors;
}

// Where a row of the warp has a factor; the largest score so far seldom changes once many have come.
template <int parts>
__device__ __forceinline__ void scale_rows(float (&sums)[parts][4], const RowFactors& factors) {
  if (lanes_where(factors.of[0] != 1 || factors.of[1] != 1) == 0) return;
#pragma unroll
  for (int j = 0; j < parts; j++)
    for (int i = 0; i < 4; i++) sums[j][i] *= factors.of[i / 2];
}

// sums / total, and lse. A query that sees no key gets 0 and −∞.
template <int parts>
__device__ __forceinline__ void finish(const RunningSoftmax& running, float scale, float (&sums)[parts][4], float* lse,
                                       int count) {
  const int lane = lane_of_warp();
  RowFactors inverse;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float total = sum_of_row(running.total[half]);
    inverse.of[half] = total == 0 ? 0 : 1 / total;
    const int row = lane / 4 + 8 * half;
    if (lse != nullptr && lane % 4 == 0 && row < count)
      lse[row] = (running.largest[half] * scale + log2f(total)) * log_of_2;
  }
  scale_rows(sums, inverse);
}

}  // namespace llama_tp::kernels
