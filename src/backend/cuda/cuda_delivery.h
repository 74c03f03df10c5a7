// A delivery by a copy into page-locked memory, which the device makes by itself, and an event behind it.
#pragma once

#include <exception>

#include "backend/cuda/calls.h"
#include "backend/cuda/watched_wait.h"
#include "backend/delivery.h"

namespace llama_tp {

class CudaDelivery : public Delivery {
 public:
  CudaDelivery(const DeviceHandle& device, int64_t bytes) : device_(device) {
    check_cuda(cudaHostAlloc(&copy_, static_cast<size_t>(bytes), cudaHostAllocDefault), "cudaHostAlloc");
  }
  // The memory is given back when the copy that nobody waited for has been made. Behind an error it may never be: then it
  // is left to the end of the process.
  ~CudaDelivery() override {
    if (std::uncaught_exceptions() > 0) return;
    try {
      finish();
      cudaFreeHost(copy_);
    } catch (...) {
    }
  }
  CudaDelivery(const CudaDelivery&) = delete;
  CudaDelivery& operator=(const CudaDelivery&) = delete;

  void ask(const Tensor& tensor) override {
    check_cuda(cudaMemcpyAsync(copy_, tensor.data, static_cast<size_t>(tensor.bytes()), cudaMemcpyDeviceToHost,
                               device_.compute),
               "delivery");
    arrived_.record(device_.compute);
    asked_ = true;
  }
  const void* wait() final {
    wait_until(device_.watchers, "what was asked of it", [&] { return arrived_.query(); });
    asked_ = false;
    return copy_;
  }
  void finish() final {
    if (asked_) wait();
  }

 private:
  const DeviceHandle& device_;
  void* copy_ = nullptr;
  CudaEvent arrived_;
  bool asked_ = false;
};

}  // namespace llama_tp
