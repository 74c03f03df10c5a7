// Elements of either type as floats, n at a time: 16 bytes where the caller's rows allow it, else one.
#pragma once

#include <initializer_list>

#include "kernels/ptx.h"

namespace llama_tp::kernels {

__device__ __forceinline__ float widened(float value) { return value; }
__device__ __forceinline__ float widened(bf16 value) { return first_of(value.bits); }

template <class X>
__device__ __forceinline__ X rounded(float value) {
  if constexpr (sizeof(X) == sizeof(float)) {
    return value;
  } else {
    X result;
    result.bits = static_cast<uint16_t>(pair_of(value, 0));
    return result;
  }
}

template <class X>
constexpr int per_16_bytes = 16 / static_cast<int>(sizeof(X));

template <int n, class X>
__device__ __forceinline__ void load(float (&to)[n], const X* from) {
  if constexpr (n == 1) {
    to[0] = widened(*from);
  } else {
    static_assert(n == per_16_bytes<X>);
    const Bytes16 bytes = load_bytes16(from);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if constexpr (sizeof(X) == sizeof(float)) {
        to[i] = float_of_bits(bytes.words[i]);
      } else {
        to[2 * i] = first_of(bytes.words[i]);
        to[2 * i + 1] = second_of(bytes.words[i]);
      }
    }
  }
}

template <int n, class X>
__device__ __forceinline__ void store(X* to, const float (&from)[n]) {
  if constexpr (n == 1) {
    *to = rounded<X>(from[0]);
  } else {
    static_assert(n == per_16_bytes<X>);
    Bytes16 bytes;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if constexpr (sizeof(X) == sizeof(float))
        bytes.words[i] = bits_of_float(from[i]);
      else
        bytes.words[i] = pair_of(from[2 * i], from[2 * i + 1]);
    }
    store_bytes16(to, bytes);
  }
}

// n floats, whatever n: for f32 beside bf16.
template <int n>
__device__ __forceinline__ void load_floats(float (&to)[n], const float* from) {
  if constexpr (n <= 4) {
    load(to, from);
  } else {
    for (int i = 0; i < n; i += 4) {
      float four[4];
      load(four, from + i);
      for (int j = 0; j < 4; j++) to[i + j] = four[j];
    }
  }
}
template <int n>
__device__ __forceinline__ void store_floats(float* to, const float (&from)[n]) {
  if constexpr (n <= 4) {
    store(to, from);
  } else {
    for (int i = 0; i < n; i += 4) {
      const float four[4] = {from[i], from[i + 1], from[i + 2], from[i + 3]};
      store(to + i, four);
    }
  }
}

// Calls start.operator()<n>(), n being what 16 bytes hold if rows of that width stay aligned to them, else 1.
template <class X, class Start>
void with_width(int64_t width, std::initializer_list<const void*> pointers, const Start& start) {
  bool aligned = width % per_16_bytes<X> == 0;
  for (const void* pointer : pointers) aligned = aligned && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  if (aligned)
    start.template operator()<per_16_bytes<X>>();
  else
    start.template operator()<1>();
}

}  // namespace llama_tp::kernels
