// The CUDA runtime's errors as Error, for kernels' starts and for all other calls.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "base/error.h"

namespace llama_tp {

// Errors: any but success, with what was asked of which device. It may come from an earlier call: work on the device
// fails behind the host's back.
inline void check_cuda(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  int device = 0;
  const bool chosen = cudaGetDevice(&device) == cudaSuccess;
  fail("cuda: ", chosen ? text("device ", device, ": ") : "", what, ": ", cudaGetErrorString(status));
}

}  // namespace llama_tp
