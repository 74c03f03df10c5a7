// A CUDA graph of the work that was asked for last. The first time work runs as it is, since what CUDA and NCCL make on
// first use cannot be recorded; the second time it is recorded; from then on one call starts all of it.
#pragma once

#include <functional>
#include <vector>

#include "backend/cuda/calls.h"

namespace llama_tp {

class CudaGraph {
 public:
  CudaGraph() = default;
  ~CudaGraph() { forget(); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  // Collectives on other streams are part of it if they begin behind an event of this one, and this one waits for them.
  void repeat(cudaStream_t stream, const std::vector<int64_t>& key, const std::function<void()>& work);
  void forget();

 private:
  void record(cudaStream_t stream, const std::function<void()>& work);

  std::vector<int64_t> key_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace llama_tp
