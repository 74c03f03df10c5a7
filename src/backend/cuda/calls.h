// The CUDA runtime for code that a plain C++ compiler compiles: its errors as Error, its streams and events as objects.
#pragma once

#include <cstdint>

#include "kernels/check.h"

namespace llama_tp {

// A stream that does not wait for the default one, which libraries may use. Of two whose kernels could begin, the urgent
// one's do: those of a collective take a few multiprocessors for long, and would else wait for all blocks of a product.
class CudaStream {
 public:
  enum class Priority : uint8_t { usual, urgent };

  explicit CudaStream(Priority priority) {
    int least = 0, greatest = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
    check_cuda(
        cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, priority == Priority::urgent ? greatest : least),
        "cudaStreamCreate");
  }
  ~CudaStream() { cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

// A moment of a stream for which other streams and the host can wait.
class CudaEvent {
 public:
  CudaEvent() { check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate"); }
  ~CudaEvent() { cudaEventDestroy(event_); }
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  // From now on the event is this moment of the stream; waits that were asked for before keep the earlier one.
  void record(cudaStream_t stream) { check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord"); }
  // What is asked of the stream from now on begins after the moment. The host does not wait.
  void hold(cudaStream_t stream) const { check_cuda(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent"); }
  // cudaErrorNotReady before the moment.
  cudaError_t query() const { return cudaEventQuery(event_); }

 private:
  cudaEvent_t event_ = nullptr;
};

// The device's own time between two moments of a stream.
class CudaStopwatch {
 public:
  explicit CudaStopwatch(cudaStream_t stream) : stream_(stream) {
    for (cudaEvent_t* event : {&begin_, &end_}) check_cuda(cudaEventCreate(event), "cudaEventCreate");
  }
  ~CudaStopwatch() {
    for (cudaEvent_t event : {begin_, end_}) cudaEventDestroy(event);
  }
  CudaStopwatch(const CudaStopwatch&) = delete;
  CudaStopwatch& operator=(const CudaStopwatch&) = delete;

  void start() { check_cuda(cudaEventRecord(begin_, stream_), "cudaEventRecord"); }
  // Since start; waits for what was asked of the stream.
  double seconds() {
    check_cuda(cudaEventRecord(end_, stream_), "cudaEventRecord");
    check_cuda(cudaStreamSynchronize(stream_), "what was timed");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

}  // namespace llama_tp
