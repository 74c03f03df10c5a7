// The CUDA backend on a real device as the backend under test, whose tensors lie in the host's memory: the device reads
// and writes it there, slowly, so that tests see it as they see the CPU backend's.
#include <algorithm>
#include <cstring>

#include "backend/cuda/calls.h"
#include "backend/cuda/cuda_backend.h"
#include "support/backend_under_test.h"

namespace llama_tp {

std::unique_ptr<Backend> backend_under_test(int) { return std::make_unique<CudaBackend>(DevicePlace{}); }
std::vector<int> thread_counts_under_test() { return {1, 1}; }

MemoryUnderTest memory_under_test(size_t bytes) {
  void* memory = nullptr;
  check_cuda(cudaHostAlloc(&memory, std::max<size_t>(1, bytes), cudaHostAllocDefault), "cudaHostAlloc");
  std::memset(memory, 0, bytes);
  return {static_cast<char*>(memory), [](char* taken) { cudaFreeHost(taken); }};
}

}  // namespace llama_tp
