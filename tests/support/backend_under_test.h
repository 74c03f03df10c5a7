// The backend that a test program is linked with: the CPU's, the CUDA kernels in emulation, or those on a GPU.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace llama_tp {

// threads: of the CPU backend.
std::unique_ptr<Backend> backend_under_test(int threads);
// Numbers of threads with each of which results must be the same; one of them twice.
std::vector<int> thread_counts_under_test();

// Zeros, exactly so many bytes, that the host and the backend under test both use.
using MemoryUnderTest = std::unique_ptr<char[], void (*)(char*)>;
MemoryUnderTest memory_under_test(size_t bytes);

}  // namespace llama_tp
