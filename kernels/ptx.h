// Every PTX instruction that the kernels use, but Hopper's own (kernels/ptx_hopper.h), behind a name that says what it
// does. Under nvcc it is the instruction, else its twin in tests/emulation/instructions.h. What a warp does together is
// called by all of its lanes.
// (PTX ISA 8: ldmatrix, mma, cp.async, griddepcontrol, prefetch, shfl, vote, redux, cvt, ex2, rcp.)
#pragma once

#include "base/dtype.h"
#include "kernels/cuda.h"

#ifndef __CUDACC__
#include "emulation/instructions.h"
#include "emulation/machine.h"
#endif

namespace llama_tp::kernels {

constexpr uint32_t whole_warp = 0xffffffffu;

// Where a kernel waits: the emulation tells, and leaves one out to see that it is missed.
#ifdef __CUDACC__
struct Place {
  static constexpr __device__ Place current() { return {}; }
};
#else
using Place = emulation::SourceLine;
#endif

// ---- between the lanes of a warp

// The value of the lane whose number differs in the bits of `mask`.
template <class Value>  // 4 or 8 bytes
__device__ __forceinline__ Value exchange(Value value, int mask) {
#ifdef __CUDACC__
  return __shfl_xor_sync(whole_warp, value, mask);
#else
  return emulation::shuffle_xor(whole_warp, value, mask);
#endif
}

// A bit for each lane, set where the condition holds.
__device__ __forceinline__ uint32_t lanes_where(bool condition) {
#ifdef __CUDACC__
  return __ballot_sync(whole_warp, condition);
#else
  return emulation::ballot(whole_warp, condition);
#endif
}

// The largest of all lanes' values. The compiler knows that it is the same in all.
__device__ __forceinline__ uint32_t largest_of_lanes(uint32_t value) {
#ifdef __CUDACC__
  return __reduce_max_sync(whole_warp, value);
#else
  return emulation::largest(whole_warp, value);
#endif
}

// ---- matrices on tensor cores, in pieces ("fragments") that the lanes of a warp hold together

// Four 8×8 matrices of bf16 from shared memory: lane 8m + r gives the address of row r of matrix m (16 bytes, aligned).
// Lane l gets elements (l/4, 2(l%4)) and the next of each matrix.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const bf16* row) {
#ifdef __CUDACC__
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
#else
  emulation::load_matrices(to, row);
#endif
}

// The same, each matrix transposed on the way.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], const bf16* row) {
#ifdef __CUDACC__
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
#else
  emulation::load_matrices_transposed(to, row);
#endif
}

// d[16×8] += a[16×16] · b[16×8]: bf16 factors, f32 sums. With g = l/4 and t = l%4, lane l holds
//   d: (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
//   a: pairs at (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8)          b: pairs down a column at (2t, g) (2t+8, g)
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  emulation::multiply_add(d, a, b0, b1);
#endif
}

// ---- copies from global to shared memory that go on while the thread does

// 16 bytes, both ends aligned to them; zeros where `exists` is false, and then `from` is not read. The bytes are there
// for this thread after its wait, for the other threads after a barrier behind that.
__device__ __forceinline__ void copy_async(void* to_shared, const void* from, bool exists) {
#ifdef __CUDACC__
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(exists ? 16 : 0)
               : "memory");
#else
  emulation::copy_async(to_shared, from, exists);
#endif
}

// Ends a group of copies.
__device__ __forceinline__ void commit_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  emulation::commit_copies();
#endif
}

// Waits for all groups but the latest `open` of this thread.
template <int open>
__device__ __forceinline__ void wait_for_copies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
#else
  emulation::wait_for_copies(open);
#endif
}

// ---- grids that begin while the one ahead still runs (cuda.h, launch_early)

// Lets the grid behind this one begin, as far as there is room, when each block has said so or ended. Nothing that this
// grid writes is there for it by that.
__device__ __forceinline__ void let_next_grid_begin() {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Waits until the grids ahead have ended; what they wrote is then there. Nothing to wait for in a grid that did not begin
// early.
__device__ __forceinline__ void wait_for_grids_ahead([[maybe_unused]] Place where = Place::current()) {
#ifndef __CUDACC__
  emulation::wait_for_grids_ahead(where);
#elif __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// What a kernel of launch_early begins with if it has nothing to do before.
__device__ __forceinline__ void begin_behind_grids_ahead(Place where = Place::current()) {
  let_next_grid_begin();
  kernels::wait_for_grids_ahead(where);
}

// Asks for 128 bytes to be brought to the L2 cache; whoever writes them later is not disturbed.
__device__ __forceinline__ void prefetch([[maybe_unused]] const void* at) {
#ifdef __CUDACC__
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(at)));
#endif
}

// ---- integers that threads add to at once: the sum does not depend on their order

// Returns what was there before.
__device__ __forceinline__ uint32_t add_atomically(uint32_t& to, uint32_t value) {
#ifdef __CUDACC__
  return atomicAdd(&to, value);
#else
  return __atomic_fetch_add(&to, value, __ATOMIC_RELAXED);
#endif
}
__device__ __forceinline__ uint64_t add_atomically(uint64_t& to, uint64_t value) {
#ifdef __CUDACC__
  return atomicAdd(reinterpret_cast<unsigned long long*>(&to), static_cast<unsigned long long>(value));
#else
  return __atomic_fetch_add(&to, value, __ATOMIC_RELAXED);
#endif
}

// ---- 4, 8 or 16 bytes at once, aligned to as many

template <int n>
struct alignas(n) Bytes {
  uint32_t words[n / 4];
};
using Bytes16 = Bytes<16>;

template <int n>
__device__ __forceinline__ Bytes<n> load_bytes(const void* from) {
#ifdef __CUDACC__
  if constexpr (n == 16) {
    const uint4 value = *static_cast<const uint4*>(from);
    return {{value.x, value.y, value.z, value.w}};
  } else if constexpr (n == 8) {
    const uint2 value = *static_cast<const uint2*>(from);
    return {{value.x, value.y}};
  } else {
    return {{*static_cast<const uint32_t*>(from)}};
  }
#else
  emulation::require_aligned(from, n);
  const auto value = *static_cast<const emulation::Piece<n>*>(from);
  Bytes<n> bytes;
  for (int i = 0; i < n / 4; i++) bytes.words[i] = value[i];
  return bytes;
#endif
}

template <int n>
__device__ __forceinline__ void store_bytes(void* to, const Bytes<n>& bytes) {
#ifdef __CUDACC__
  if constexpr (n == 16)
    *static_cast<uint4*>(to) = make_uint4(bytes.words[0], bytes.words[1], bytes.words[2], bytes.words[3]);
  else if constexpr (n == 8)
    *static_cast<uint2*>(to) = make_uint2(bytes.words[0], bytes.words[1]);
  else
    *static_cast<uint32_t*>(to) = bytes.words[0];
#else
  emulation::require_aligned(to, n);
  if (n == 16) emulation::note_write(to);
  *static_cast<emulation::Piece<n>*>(to) = std::bit_cast<emulation::Piece<n>>(bytes);
#endif
}

__device__ __forceinline__ Bytes16 load_bytes16(const void* from) { return load_bytes<16>(from); }
// Of global memory that nothing writes while the kernel runs, and that this multiprocessor reads once: it is not kept in
// the nearest cache, in the place of what is read again.
__device__ __forceinline__ Bytes16 load_bytes16_once(const void* from) {
#ifdef __CUDACC__
  Bytes16 bytes;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(bytes.words[0]), "=r"(bytes.words[1]), "=r"(bytes.words[2]), "=r"(bytes.words[3])
               : "l"(__cvta_generic_to_global(from)));
  return bytes;
#else
  return load_bytes16(from);
#endif
}
__device__ __forceinline__ void store_bytes16(void* to, const Bytes16& bytes) { store_bytes(to, bytes); }

// ---- numbers

__device__ __forceinline__ float float_of_bits(uint32_t bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}
__device__ __forceinline__ uint32_t bits_of_float(float value) {
#ifdef __CUDACC__
  return __float_as_uint(value);
#else
  return std::bit_cast<uint32_t>(value);
#endif
}

// Two bf16 in a word, each rounded to nearest even: the first in the low half.
__device__ __forceinline__ uint32_t pair_of(float first, float second) {
#ifdef __CUDACC__
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
#else
  return emulation::pair_of(first, second);
#endif
}
__device__ __forceinline__ float first_of(uint32_t pair) { return float_of_bits(pair << 16); }
__device__ __forceinline__ float second_of(uint32_t pair) { return float_of_bits(pair & 0xffff0000u); }

// 2^x to within 2 units in the last place; results below the least normal number are 0.
__device__ __forceinline__ float power_of_two(float x) {
#ifdef __CUDACC__
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return emulation::power_of_two(x);
#endif
}

// For exponentials as powers of two.
constexpr float log2_of_e = 1.44269504f;

// 1/x to within a unit in the last place; results below the least normal number are 0.
__device__ __forceinline__ float reciprocal(float x) {
#ifdef __CUDACC__
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
#else
  return emulation::reciprocal(x);
#endif
}

}  // namespace llama_tp::kernels
