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

// n elements of 4 or 2 bytes as they lie in memory, which is how few registers hold many; loaded and stored in as few
// pieces as there can be.
template <int n, class X>
struct Packed {
  static constexpr int bytes = n * static_cast<int>(sizeof(X)), words_in_all = bytes < 4 ? 1 : bytes / 4;
  static constexpr int piece = bytes < 16 ? bytes : 16;
  uint32_t words[words_in_all];

  Packed() = default;
  __device__ __forceinline__ explicit Packed(const X* from) {
    if constexpr (bytes == 2) {
      words[0] = *reinterpret_cast<const uint16_t*>(from);
    } else {
#pragma unroll
      for (int at = 0; at < bytes; at += piece) {
        const Bytes<piece> loaded = load_bytes<piece>(reinterpret_cast<const char*>(from) + at);
        for (int i = 0; i < piece / 4; i++) words[at / 4 + i] = loaded.words[i];
      }
    }
  }
  static __device__ __forceinline__ Packed rounded(const float (&values)[n]) {
    Packed packed;
#pragma unroll
    for (int i = 0; i < words_in_all; i++) {
      if constexpr (sizeof(X) == sizeof(float))
        packed.words[i] = bits_of_float(values[i]);
      else if constexpr (n == 1)
        packed.words[i] = pair_of(values[i], 0);
      else
        packed.words[i] = pair_of(values[2 * i], values[2 * i + 1]);
    }
    return packed;
  }

  __device__ __forceinline__ void store(X* to) const {
    if constexpr (bytes == 2) {
      *reinterpret_cast<uint16_t*>(to) = static_cast<uint16_t>(words[0]);
    } else {
#pragma unroll
      for (int at = 0; at < bytes; at += piece) {
        Bytes<piece> stored;
        for (int i = 0; i < piece / 4; i++) stored.words[i] = words[at / 4 + i];
        store_bytes(reinterpret_cast<char*>(to) + at, stored);
      }
    }
  }
  __device__ __forceinline__ void unpack(float (&to)[n]) const {
#pragma unroll
    for (int i = 0; i < n; i++) {
      if constexpr (sizeof(X) == sizeof(float))
        to[i] = float_of_bits(words[i]);
      else
        to[i] = i % 2 == 0 ? first_of(words[i / 2]) : second_of(words[i / 2]);
    }
  }
};

template <int n, class X>
__device__ __forceinline__ void load(float (&to)[n], const X* from) {
  Packed<n, X>(from).unpack(to);
}
template <int n, class X>
__device__ __forceinline__ void store(X* to, const float (&from)[n]) {
  Packed<n, X>::rounded(from).store(to);
}

// use(i, n elements from `from` + i on), for i = first, first + step, … before `end`. So many of the loads are under way
// at once: a thread that waits for one before it asks for the next leaves memory idle (docs/performance.md). Index: int
// within a row, which is counted faster, or int64_t.
template <int at_once, int n, class X, class Index, class Use>
__device__ __forceinline__ void each_piece(const X* from, Index first, Index end, Index step, const Use& use) {
  for (Index begin = first; begin < end; begin += at_once * step) {
    Packed<n, X> pieces[at_once];
#pragma unroll
    for (int j = 0; j < at_once; j++)
      if (begin + j * step < end) pieces[j] = Packed<n, X>(from + begin + j * step);
#pragma unroll
    for (int j = 0; j < at_once; j++) {
      if (begin + j * step >= end) break;
      float values[n];
      pieces[j].unpack(values);
      use(begin + j * step, values);
    }
  }
}

// A warp asks for the first `count` elements of a row to be brought to the L2 cache.
template <class X>
__device__ __forceinline__ void prefetch_begin(const X* row, int count) {
  constexpr int line = 128 / static_cast<int>(sizeof(X));
#pragma unroll 1
  for (int i = lane_of_warp() * line; i < count; i += warp_size * line) prefetch(row + i);
}

// How many of the elements of each row the blocks of a product may ask for ahead of their turn: together they fit the
// cache, of which Hopper has 50 MB, beside what is in use; of many rows, which never all have blocks at once, 4 KiB.
template <class X>
int elements_ahead(int64_t rows, int64_t width) {
  constexpr int64_t in_all = 32 << 20, least = 4 << 10;
  return static_cast<int>(smaller(width, larger(in_all / rows, least) / static_cast<int64_t>(sizeof(X))));
}

// Calls start.operator()<n>(), n being what 16 bytes of an X hold if rows of that width stay aligned to them, else 1.
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
