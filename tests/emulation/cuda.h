// The language of CUDA for a plain C++ compiler, as much of it as the kernels use: qualifiers, indices, barriers,
// shared memory and the launch. A grid runs on the caller's thread, block after block (machine.h).
#pragma once

#include <math.h>  // as in CUDA, with the functions of f32 by their C names

#include <functional>
#include <tuple>

#include "emulation/machine.h"
#include "emulation/sanitizers.h"
#include "kernels/stream.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

using dim3 = llama_tp::emulation::Index;

#define threadIdx (::llama_tp::emulation::this_thread().index)
#define blockIdx (::llama_tp::emulation::this_block().index)
#define blockDim (::llama_tp::emulation::this_block().threads)
#define gridDim (::llama_tp::emulation::this_block().grid)

inline void __syncthreads(llama_tp::emulation::SourceLine where = llama_tp::emulation::SourceLine::current()) {
  llama_tp::emulation::block_barrier(where);
}
inline void __syncwarp(llama_tp::emulation::SourceLine where = llama_tp::emulation::SourceLine::current()) {
  llama_tp::emulation::warp_barrier(where);
}

namespace llama_tp::kernels {

template <class Layout>
Layout& shared_memory() {
  static_assert(alignof(Layout) <= 1024);
  return *static_cast<Layout*>(emulation::shared_memory(sizeof(Layout)));
}

inline bool is_hopper() { return emulation::is_hopper(); }

template <class... Parameters, class... Arguments>
void start_grid(Begin begin, Stream, const char* name, dim3 blocks, int threads, size_t shared_bytes,
                void (*kernel)(Parameters...), const Arguments&... arguments) {
  using Call = std::tuple<void (*)(Parameters...), std::tuple<Parameters...>>;
  // On the heap, and seen by nobody: threads that begin early find their parameters, too.
  const auto grid_of_call = [&]() -> std::function<void()> {
    const emulation::Unseen parameters;
    return [=, call = Call{kernel, {static_cast<Parameters>(arguments)...}}]() mutable {
      emulation::run_grid(
          {name, reinterpret_cast<const void*>(kernel), blocks, static_cast<unsigned>(threads), shared_bytes,
           begin == Begin::early},
          [](void* of) { std::apply(std::get<0>(*static_cast<Call*>(of)), std::get<1>(*static_cast<Call*>(of))); },
          &call);
    };
  };
  const std::function<void()> grid = grid_of_call();
  if (emulation::Recording* const recording = emulation::recording())
    recording->push_back(grid);
  else
    grid();
}

}  // namespace llama_tp::kernels
