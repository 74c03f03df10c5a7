// The backend that a test program is linked with: the CPU's, or the CUDA kernels in emulation.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"

namespace llama_tp {

// threads: of the CPU backend.
std::unique_ptr<Backend> backend_under_test(int threads);
// Numbers of threads with each of which results must be the same; one of them twice.
std::vector<int> thread_counts_under_test();

}  // namespace llama_tp
