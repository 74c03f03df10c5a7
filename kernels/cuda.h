// What a kernel file sees of CUDA: the toolkit under nvcc, tests/emulation under a plain C++ compiler, where the same
// source runs on the CPU. And the one way in which kernels are started and take shared memory.
#pragma once

#include <cstdint>

#include "base/environment.h"
#include "base/error.h"
#include "kernels/stream.h"

namespace llama_tp::kernels {

// When a grid may begin: when the one ahead of it in the stream has ended, or as soon as that lets it (ptx.h,
// let_next_grid_begin).
enum class Begin : uint8_t { behind, early };

}  // namespace llama_tp::kernels

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

// LLAMA_TP_EARLY_GRIDS=0 in the environment: no grid begins early. Recorded ones can from CUDA 12.3 on, where a graph's
// edges say so.
inline bool grids_begin_early() {
  static const bool wanted = environment_switch("LLAMA_TP_EARLY_GRIDS", true);
  static const bool can = [] {
    constexpr int first_with_such_edges = 12030;
    int driver = 0;
    check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    return CUDART_VERSION >= first_with_such_edges && driver >= first_with_such_edges;
  }();
  return wanted && can && is_hopper();
}

template <class... Parameters, class... Arguments>
void start_grid(Begin begin, Stream stream, const char* name, dim3 blocks, int threads, size_t shared_bytes,
                void (*kernel)(Parameters...), const Arguments&... arguments) {
  constexpr size_t without_asking = 48 << 10;
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) return;
  if (shared_bytes > without_asking)
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
        name);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = begin == Begin::early && grids_begin_early() ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
}

}  // namespace llama_tp::kernels

#else
#include "emulation/cuda.h"
#endif

namespace llama_tp::kernels {

// Starts a grid when what is ahead of it in the stream has ended. An empty grid starts nothing.
template <class... Parameters, class... Arguments>
void launch(Stream stream, const char* name, dim3 blocks, int threads, size_t shared_bytes,
            void (*kernel)(Parameters...), const Arguments&... arguments) {
  start_grid(Begin::behind, stream, name, blocks, threads, shared_bytes, kernel, arguments...);
}

// The same for the kernels of a token that is generated, which are short: blocks come to their multiprocessors while the
// grid ahead still runs. Each thread of such a kernel calls wait_for_grids_ahead (ptx.h) before it touches what any
// other kernel writes, also one that has nothing to do: the grid behind relies on it that all ahead of this one have
// ended when this one has.
template <class... Parameters, class... Arguments>
void launch_early(Stream stream, const char* name, dim3 blocks, int threads, size_t shared_bytes,
                  void (*kernel)(Parameters...), const Arguments&... arguments) {
  start_grid(Begin::early, stream, name, blocks, threads, shared_bytes, kernel, arguments...);
}

constexpr int warp_size = 32;

constexpr __host__ __device__ int64_t ceil_div(int64_t n, int64_t divisor) { return (n + divisor - 1) / divisor; }
constexpr __host__ __device__ int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr __host__ __device__ int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

__device__ __forceinline__ int lane_of_warp() { return static_cast<int>(threadIdx.x) % warp_size; }
__device__ __forceinline__ int thread_of_block() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int warp_of_block() { return static_cast<int>(threadIdx.x) / warp_size; }

constexpr int64_t most_blocks_on_x = 2147483647, most_blocks_on_y = 65535, most_blocks_on_z = 65535;

// A grid of as many blocks along each axis. Errors: more than one can have.
inline dim3 grid_of(const char* name, int64_t x, int64_t y = 1, int64_t z = 1) {
  require(x >= 0 && x <= most_blocks_on_x && y >= 0 && y <= most_blocks_on_y && z >= 0 && z <= most_blocks_on_z,
          "cuda: ", name, ": a grid of ", x, " × ", y, " × ", z, " blocks; at most ", most_blocks_on_x, " × ",
          most_blocks_on_y, " × ", most_blocks_on_z, " are possible");
  return {static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z)};
}

}  // namespace llama_tp::kernels
