// The backend that a test program is linked with: the CPU's, or the CUDA kernels in emulation.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace llama_tp {

// threads: of the CPU backend.
std::unique_ptr<Backend> backend_under_test(int threads);

}  // namespace llama_tp
