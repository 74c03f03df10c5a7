// Copies from the host's memory, which may change as soon as it was copied from: what is uploaded goes through
// page-locked places of the backend's own, round and round, from which the device takes it when its turn comes. (From
// pageable memory itself a copy may be the driver's to make later: CUDA's runtime promises no more, and devices that
// read the host's pages need no copy of them.)
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "backend/cuda/calls.h"
#include "backend/cuda/watched_wait.h"
#include "backend/tensor.h"

namespace llama_tp {

class CudaUploads {
 public:
  // A place has room for the numbers of a forward of 16,384 tokens; the host waits when all are on their way.
  static constexpr int64_t place_bytes = 256 << 10, places = 8;

  explicit CudaUploads(const DeviceHandle& device) : device_(device) {
    check_cuda(cudaHostAlloc(reinterpret_cast<void**>(&memory_), places * place_bytes, cudaHostAllocDefault),
               "cudaHostAlloc");
  }
  // Left to the end of the process where the device may still read it, as behind an error.
  ~CudaUploads() {
    if (cudaStreamQuery(device_.compute) == cudaSuccess) cudaFreeHost(memory_);
  }
  CudaUploads(const CudaUploads&) = delete;
  CudaUploads& operator=(const CudaUploads&) = delete;

  void copy(const void* host, const Tensor& tensor) {
    for (int64_t at = 0; at < tensor.bytes(); at += place_bytes)
      copy_piece(static_cast<const char*>(host) + at, static_cast<char*>(tensor.data) + at,
                 std::min(place_bytes, tensor.bytes() - at));
  }

 private:
  void copy_piece(const char* host, char* to, int64_t bytes) {
    const CudaEvent& taken = taken_[next_];
    wait_until(device_.watchers, "an upload", [&] { return taken.query(); });
    char* const place = memory_ + static_cast<int64_t>(next_) * place_bytes;
    std::memcpy(place, host, static_cast<size_t>(bytes));
    check_cuda(cudaMemcpyAsync(to, place, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, device_.compute),
               "upload");
    taken_[next_].record(device_.compute);
    next_ = (next_ + 1) % taken_.size();
  }

  const DeviceHandle& device_;
  char* memory_ = nullptr;
  std::array<CudaEvent, places> taken_;  // when the device has taken what a place held
  size_t next_ = 0;
};

}  // namespace llama_tp
