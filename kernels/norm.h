// What the norms' two directions share: a row's statistics and one normalized element.
#pragma once

#include "kernels/kernels.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

struct RowStatistics {
  float mean = 0, scale = 0;  // scale: 1/rms or 1/deviation
};

// [T] 1/rms, or [T, 2] mean and 1/deviation.
__device__ __forceinline__ RowStatistics saved_statistics(const NormOptions& options, const float* statistics,
                                                          int64_t row) {
  if (options.kind.centers) return {statistics[2 * row], statistics[2 * row + 1]};
  return {0, statistics[row]};
}

}  // namespace llama_tp::kernels
