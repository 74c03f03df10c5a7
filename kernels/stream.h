// A CUDA stream, by the name that cuda_runtime.h gives it, for files that do not include that.
#pragma once

struct CUstream_st;

namespace llama_tp::kernels {

using Stream = CUstream_st*;

}  // namespace llama_tp::kernels
