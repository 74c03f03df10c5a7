// What a kernel file sees of CUDA: the toolkit under nvcc, tests/emulation under a plain C++ compiler, where the same
// source runs on the CPU. And the one way in which kernels are started and take shared memory.
#pragma once

#include <cstdint>

#include "base/error.h"
#include "kernels/stream.h"

#ifdef __CUDACC__

#include <cuda_runtime.h>

#include "kernels/check.h"

namespace llama_tp::kernels {

// Of the block's shared memory: what the most demanding layout asks for.
constexpr int shared_alignment = 1024;

// The block's shared memory as the one struct that its launch has given the size of.
template <class Layout>
__device__ __forceinline__ Layout& shared_memory() {
  extern __shared__ __align__(shared_alignment) char shared_bytes[];
  return *reinterpret_cast<Layout*>(shared_bytes);
}

// kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...). An empty grid starts nothing.
template <class... Parameters, class... Arguments>
void launch(Stream stream, const char* name, dim3 blocks, int threads, size_t shared_bytes,
            void (*kernel)(Parameters...), const Arguments&... arguments) {
  constexpr size_t without_asking = 48 << 10;
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  if (shared_bytes > without_asking)
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
        name);
  kernel<<<blocks, static_cast<unsigned>(threads), shared_bytes, stream>>>(arguments...);
  check_cuda(cudaGetLastError(), name);
}

// Whether this GPU has Hopper's own instructions (sm_90a) and the program was built for them.
inline bool is_hopper() {
#ifdef LLAMA_TP_SM_90A
  int device = 0, major = 0, minor = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  return major == 9 && minor == 0;
#else
  return false;
#endif
}

}  // namespace llama_tp::kernels

#else
#include "emulation/cuda.h"
#endif

namespace llama_tp::kernels {

constexpr int warp_size = 32;

constexpr __host__ __device__ int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }
constexpr __host__ __device__ int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr __host__ __device__ int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

__device__ __forceinline__ int lane_of_warp() { return static_cast<int>(threadIdx.x) % warp_size; }
__device__ __forceinline__ int thread_of_block() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int warp_of_block() { return static_cast<int>(threadIdx.x) / warp_size; }

// For as many blocks along one axis as there are things to do. Errors: more than a grid can have.
inline unsigned grid_axis(int64_t n, const char* name) {
  require(n >= 0 && n <= 2147483647, "cuda: ", name, ": ", n, " blocks are more than a grid can have");
  return static_cast<unsigned>(n);
}

}  // namespace llama_tp::kernels
