#include "backend/cuda/cuda_graph.h"

namespace llama_tp {

void CudaGraph::repeat(cudaStream_t stream, const std::vector<int64_t>& key, const std::function<void()>& work) {
  if (key != key_) {
    forget();
    work();
    key_ = key;
    return;
  }
  if (graph_ == nullptr) record(stream, work);
  check_cuda(cudaGraphLaunch(graph_, stream), "cudaGraphLaunch");
}

// Only this thread's calls are watched: other threads are libraries' own.
void CudaGraph::record(cudaStream_t stream, const std::function<void()>& work) {
  cudaGraph_t recorded = nullptr;
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &recorded);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
  const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
  cudaGraphDestroy(recorded);
  check_cuda(status, "cudaGraphInstantiate");
}

void CudaGraph::forget() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  graph_ = nullptr;
  key_.clear();
}

}  // namespace llama_tp
