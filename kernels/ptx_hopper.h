// The instructions that Hopper adds (sm_90a), as kernels/ptx.h has the others: barriers in shared memory, tiles that are
// copied by themselves (TMA), and matrix products of a warpgroup, four warps together. Each has its twin in
// tests/emulation/bulk_copies.h and warpgroup.h.
// (PTX ISA 8: mbarrier, cp.async.bulk.tensor, fence.proxy.async, wgmma, setmaxnreg.)
#pragma once

#include <type_traits>

#include "kernels/ptx.h"
#include "kernels/tensor_map.h"

#ifndef __CUDACC__
#include "emulation/bulk_copies.h"
#include "emulation/warpgroup.h"
#endif

namespace llama_tp::kernels {

// Whether what is being compiled can have these instructions: kernels leave their bodies out elsewhere.
#if defined(__CUDACC__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool has_hopper_instructions = false;
#else
constexpr bool has_hopper_instructions = true;
#endif

constexpr int warpgroup_size = 128;

// Whose number this is, taken from one lane so that the compiler knows it to be the same in all: addresses that depend on
// it stay in uniform registers, from where products take their factors' descriptors.
__device__ __forceinline__ int warpgroup_of_block() {
  const int number = static_cast<int>(threadIdx.x) / warpgroup_size;
#ifdef __CUDACC__
  return __shfl_sync(whole_warp, number, 0);
#else
  return number;
#endif
}

// As most instructions take an address in shared memory.
__device__ __forceinline__ uint32_t shared_address(const void* at) {
#ifdef __CUDACC__
  return static_cast<uint32_t>(__cvta_generic_to_shared(at));
#else
  return emulation::shared_address(at);
#endif
}

// ---- barriers in shared memory

// Its phases follow each other: one ends when as many threads have arrived as it was initialized for and all bytes have
// come that they announced. The first phase has parity 0, the next 1, and so on.
struct MemoryBarrier {
  uint64_t state;
};

// By one thread; the others may use it behind a fence_async_proxy() of that thread and a barrier of the block.
__device__ __forceinline__ void initialize(MemoryBarrier& barrier, int arrivals) {
#ifdef __CUDACC__
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
#else
  emulation::initialize_barrier(&barrier.state, arrivals);
#endif
}

__device__ __forceinline__ void arrive(MemoryBarrier& barrier) {
#ifdef __CUDACC__
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
#else
  emulation::arrive_at_barrier(&barrier.state, 0);
#endif
}

// Arrives, and announces as many bytes.
__device__ __forceinline__ void arrive_and_expect(MemoryBarrier& barrier, int bytes) {
#ifdef __CUDACC__
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
#else
  emulation::arrive_at_barrier(&barrier.state, bytes);
#endif
}

// Until the phase of this parity has ended: the one that goes on, or the one before it.
__device__ __forceinline__ void wait_for(MemoryBarrier& barrier, uint32_t parity,
                                         [[maybe_unused]] Place where = Place::current()) {
#ifdef __CUDACC__
  uint32_t ended;
  do
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(ended)
                 : "r"(shared_address(&barrier)), "r"(parity)
                 : "memory");
  while (ended == 0);
#else
  emulation::wait_at_barrier(&barrier.state, parity, where);
#endif
}

// What this thread has written to shared memory becomes visible to copies of tiles and products of warpgroups.
__device__ __forceinline__ void fence_async_proxy() {
#ifdef __CUDACC__
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
  emulation::fence_async_proxy();
#endif
}

// ---- tiles of a tensor

// The map's box at these coordinates, innermost first, zeros outside of the tensor; its bytes are announced to the
// barrier by who waits for them there. One thread calls it.
__device__ __forceinline__ void copy_tile(void* to_shared, const TensorMap& map, int x, int y, int z,
                                          MemoryBarrier& barrier) {
#ifdef __CUDACC__
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(shared_address(to_shared)),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(shared_address(&barrier))
      : "memory");
#else
  const int32_t coordinates[] = {x, y, z};
  emulation::copy_tile(to_shared, map, &coordinates[0], &barrier.state);
#endif
}

// ---- products of a warpgroup, done in the background. All of its 128 threads call these.

// The accumulators of d[64, n] are Sums<n> of kernels/tiles.h: each warp has 16 of the rows.

// Keeps the compiler from moving what is done with registers of a product, sums or factors, over this line.
template <class Register, int parts>
__device__ __forceinline__ void hold_in_place([[maybe_unused]] Register (&registers)[parts][4]) {
#ifdef __CUDACC__
#pragma unroll
  for (int j = 0; j < parts; j++)
    for (int i = 0; i < 4; i++)
      if constexpr (std::is_same_v<Register, float>)
        asm volatile("" : "+f"(registers[j][i])::"memory");
      else
        asm volatile("" : "+r"(registers[j][i])::"memory");
#endif
}

// Before the first product after this thread has written registers that it takes: these.
template <class... Registers>
__device__ __forceinline__ void fence_products(Registers&... registers) {
  (hold_in_place(registers), ...);
#ifdef __CUDACC__
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  emulation::fence_products();
#endif
}

// Ends a group of products.
__device__ __forceinline__ void commit_products() {
#ifdef __CUDACC__
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  emulation::commit_products();
#endif
}

// Waits for all groups but the latest `open`; the sums are of one that is waited for.
template <int open, int parts>
__device__ __forceinline__ void wait_for_products(float (&sums)[parts][4],
                                                  [[maybe_unused]] Place where = Place::current()) {
#ifdef __CUDACC__
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(open) : "memory");
#else
  emulation::wait_for_products(open, where);
#endif
  hold_in_place(sums);
}

#ifdef __CUDACC__
// The sums of an instruction, by their numbers in it and as its operands: four of each of d's 8 or 16 parts.
#define LLAMA_TP_NAMES_OF_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
#define LLAMA_TP_NAMES_TO_31 \
  LLAMA_TP_NAMES_OF_16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define LLAMA_TP_NAMES_OF_32 "{" LLAMA_TP_NAMES_TO_31 "}, "
#define LLAMA_TP_NAMES_OF_64                                                           \
  "{" LLAMA_TP_NAMES_TO_31                                                             \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
#define LLAMA_TP_SUMS_OF(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define LLAMA_TP_SUMS_OF_8                                                                                 \
  LLAMA_TP_SUMS_OF(0), LLAMA_TP_SUMS_OF(1), LLAMA_TP_SUMS_OF(2), LLAMA_TP_SUMS_OF(3), LLAMA_TP_SUMS_OF(4), \
      LLAMA_TP_SUMS_OF(5), LLAMA_TP_SUMS_OF(6), LLAMA_TP_SUMS_OF(7)
#define LLAMA_TP_SUMS_OF_16                                                                                 \
  LLAMA_TP_SUMS_OF_8, LLAMA_TP_SUMS_OF(8), LLAMA_TP_SUMS_OF(9), LLAMA_TP_SUMS_OF(10), LLAMA_TP_SUMS_OF(11), \
      LLAMA_TP_SUMS_OF(12), LLAMA_TP_SUMS_OF(13), LLAMA_TP_SUMS_OF(14), LLAMA_TP_SUMS_OF(15)
#endif

// d = a · bᵀ, or += where `add`: 16 columns of a's 64 rows and b's 64 or 128, both in shared memory and described by
// kernels/swizzled_tile.h.
__device__ __forceinline__ void multiply_rows(float (&d)[8][4], uint64_t a, uint64_t b, bool add) {
#ifdef __CUDACC__
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " LLAMA_TP_NAMES_OF_32 "%32, %33, p, 1, 1, 0, 0;\n}"
      : LLAMA_TP_SUMS_OF_8
      : "l"(a), "l"(b), "r"(add ? 1 : 0));
#else
  emulation::multiply_asynchronously({&d[0][0], 64, nullptr, a, b, false, add});
#endif
}
__device__ __forceinline__ void multiply_rows(float (&d)[16][4], uint64_t a, uint64_t b, bool add) {
#ifdef __CUDACC__
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " LLAMA_TP_NAMES_OF_64 "%64, %65, p, 1, 1, 0, 0;\n}"
      : LLAMA_TP_SUMS_OF_16
      : "l"(a), "l"(b), "r"(add ? 1 : 0));
#else
  emulation::multiply_asynchronously({&d[0][0], 128, nullptr, a, b, false, add});
#endif
}

// d += a · b: a[64, 16] in registers, of which each warp has 16 rows as for ptx.h's multiply_add; b[16, 64 or 128] in
// shared memory.
__device__ __forceinline__ void add_product(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b) {
#ifdef __CUDACC__
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " LLAMA_TP_NAMES_OF_32
               "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
               : LLAMA_TP_SUMS_OF_8
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
  emulation::multiply_asynchronously({&d[0][0], 64, a, 0, b, true, true});
#endif
}
__device__ __forceinline__ void add_product(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {
#ifdef __CUDACC__
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " LLAMA_TP_NAMES_OF_64
               "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
               : LLAMA_TP_SUMS_OF_16
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
  emulation::multiply_asynchronously({&d[0][0], 128, a, 0, b, true, true});
#endif
}

// ---- registers

// A warpgroup asks for as many registers a thread, or gives up what is above them. The emulation has no such thing.
template <int registers>
__device__ __forceinline__ void take_registers() {
#ifdef __CUDACC__
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}
template <int registers>
__device__ __forceinline__ void give_registers() {
#ifdef __CUDACC__
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}

}  // namespace llama_tp::kernels
