// Sums and maxima over a warp and a block, always in the same order.
#pragma once

#include <type_traits>

#include "kernels/ptx.h"

namespace llama_tp::kernels {

struct Sum {
  template <class Value>
  static __device__ __forceinline__ Value join(Value a, Value b) {
    return a + b;
  }
};
struct Largest {
  template <class Value>
  static __device__ __forceinline__ Value join(Value a, Value b) {
    if constexpr (std::is_integral_v<Value>)
      return a > b ? a : b;
    else
      return fmaxf(a, b);
  }
};

// Of the values of all lanes, or of groups of so many neighbours, in all of them. The emulation lets the lanes meet once
// instead of five times.
template <class How, int lanes = warp_size, class Value>
__device__ __forceinline__ Value over_warp(Value value) {
#ifdef __CUDACC__
#pragma unroll
  for (int mask = lanes / 2; mask > 0; mask /= 2) value = How::join(value, exchange(value, mask));
  return value;
#else
  return emulation::butterfly(value, How::template join<Value>, lanes);
#endif
}
template <int lanes = warp_size>
__device__ __forceinline__ float warp_sum(float value) {
  return over_warp<Sum, lanes>(value);
}

// A value of each warp of a block.
template <class Value>
struct WarpValues {
  Value of[warp_size];
};

// Of the values of all threads, in all of them. `values` may be used again after the next barrier.
template <class How, class Value>
__device__ __forceinline__ Value over_block(Value value, WarpValues<Value>& values) {
  value = over_warp<How>(value);
  if (lane_of_warp() == 0) values.of[warp_of_block()] = value;
  __syncthreads();
  value = values.of[0];
  for (int warp = 1; warp < static_cast<int>(blockDim.x) / warp_size; warp++) value = How::join(value, values.of[warp]);
  return value;
}
__device__ __forceinline__ float block_sum(float value, WarpValues<float>& values) {
  return over_block<Sum>(value, values);
}

}  // namespace llama_tp::kernels
