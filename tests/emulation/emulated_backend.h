// The CUDA backend's operations on an emulated GPU, with memory of its own (device_memory.h). Large matrix products,
// which are a library's on a GPU, are the CPU backend's. What is to be recorded runs each time.
#pragma once

#include <memory>

#include "backend/cuda/cuda_operations.h"
#include "backend/recorder.h"

namespace llama_tp {

class EmulatedBackend : public CudaOperations, public Recorder {
 public:
  static constexpr int64_t token_parts_here = 3;

  EmulatedBackend();

  void* reserve(int64_t bytes) override;
  void release(void* base, int64_t bytes) override;
  void upload(const void* host, const Tensor& tensor) override;
  void download(const Tensor& tensor, void* host) override;
  std::unique_ptr<Delivery> make_delivery(int64_t bytes) override;
  void synchronize() override {}
  Recorder* recorder() override { return this; }
  void repeat(const std::vector<int64_t>&, const std::function<void()>& work) override { work(); }
  void forget() override {}
  // Few tokens go in parts, too.
  int64_t token_parts(int64_t, int64_t) const override { return token_parts_here; }
  double read_bandwidth(double most_seconds) override { return cpu_->read_bandwidth(most_seconds); }
  std::string description() const override { return "cuda: emulated"; }

  int64_t linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) override;
  int64_t linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) override;
  int64_t linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) override;

 protected:
  void multiply(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, void* workspace) override;
  void run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) override;
  void run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) override;

 private:
  std::unique_ptr<Backend> cpu_;
  Ledger ledger_;
  Arena scratch_{"products", ledger_};  // the CPU's own
  Workspace workspace_{*cpu_, scratch_};
};

}  // namespace llama_tp
