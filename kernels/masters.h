// The f32 master weights that an optimizer updates, n of a thread: those of bf16 weights and their rests
// (base/split_float.h); an f32 weight is its own.
#pragma once

#include <type_traits>

#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

template <int n>
struct Masters {
  Packed<n, float> w;

  __device__ __forceinline__ Masters(const OptimizerTensors<float>& tensors, int64_t i) : w(tensors.w + i) {}
  __device__ __forceinline__ void get(float (&masters)[n]) const { w.unpack(masters); }
  static __device__ __forceinline__ void store(const OptimizerTensors<float>& tensors, int64_t i,
                                               const float (&masters)[n]) {
    kernels::store(tensors.w + i, masters);
  }
};
// NaN has one form, since rounding could carry a NaN's bits over into those of a number.
template <int n>
struct SplitMasters {
  Packed<n, bf16> w;
  Packed<n, int16_t> rest;

  __device__ __forceinline__ SplitMasters(const OptimizerTensors<bf16>& tensors, int64_t i)
      : w(tensors.w + i), rest(tensors.rest + i) {}
  __device__ __forceinline__ void get(float (&masters)[n]) const {
    for (int j = 0; j < n; j++) {
      const auto signed_rest = static_cast<int16_t>(rest.words[j / 2] >> j % 2 * 16);
      masters[j] = float_of_bits((w.words[j / 2] >> j % 2 * 16 << 16) + static_cast<uint32_t>(int32_t{signed_rest}));
    }
  }
  static __device__ __forceinline__ void store(const OptimizerTensors<bf16>& tensors, int64_t i,
                                               const float (&masters)[n]) {
    SplitMasters split;
    for (int j = 0; j < n; j++) {
      const uint32_t bits = masters[j] == masters[j] ? bits_of_float(masters[j]) : 0x7fc00000u;
      const int shift = j % 2 * 16;
      split.w.words[j / 2] = (shift == 0 ? 0 : split.w.words[j / 2]) | (bits + 0x8000u) >> 16 << shift;
      split.rest.words[j / 2] = (shift == 0 ? 0 : split.rest.words[j / 2]) | (bits & 0xffffu) << shift;
    }
    split.w.store(tensors.w + i);
    split.rest.store(tensors.rest + i);
  }

 private:
  SplitMasters() = default;
};
template <int n, class X>
using MastersOf = std::conditional_t<sizeof(X) == sizeof(float), Masters<n>, SplitMasters<n>>;

}  // namespace llama_tp::kernels
