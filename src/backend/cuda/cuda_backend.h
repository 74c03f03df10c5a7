// The operations on one NVIDIA GPU: memory and streams here, products in cublas_lt.h, all else in cuda_operations.h.
// The device runs behind the host: an operation returns when it was asked for, and download and synchronize wait. Every
// call comes from the thread that made the backend.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/cuda/calls.h"
#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/cuda_graph.h"
#include "backend/cuda/cuda_operations.h"
#include "backend/cuda/cuda_uploads.h"
#include "backend/device.h"
#include "backend/device_handle.h"
#include "backend/product_tuner.h"
#include "backend/recorder.h"

namespace llama_tp {

// Why this process cannot have a CUDA device, where there is no driver, or it sees none that can run the kernels; else "".
std::string why_no_cuda_device();

class CudaBackend : public CudaOperations, public Recorder, public ProductTuner {
 public:
  // The device of the rank's place among those of its host, round and round where they are fewer (the mesh looks for
  // ranks that meet). Errors: why_no_cuda_device; a driver older than this program's CUDA; a device that is too old
  // for the kernels, or for which the program has none; no libcublasLt; products that were tuned elsewhere.
  explicit CudaBackend(const DevicePlace& place);

  void* reserve(int64_t bytes) override;
  void release(void* base, int64_t bytes) override;
  void upload(const void* host, const Tensor& tensor) override;
  void download(const Tensor& tensor, void* host) override;
  std::unique_ptr<Delivery> make_delivery(int64_t bytes) override;
  void synchronize() override;
  int64_t free_memory() const override;
  int64_t memory_in_use() const override;
  double read_bandwidth(double most_seconds) override;
  std::string description() const override;
  DeviceHandle* device() override { return &handle_; }
  Recorder* recorder() override { return this; }
  void repeat(const std::vector<int64_t>& key, const std::function<void()>& work) override;
  void forget() override { graph_.forget(); }
  ProductTuner* product_tuner() override { return this; }
  void check(const ProductFile& before) const override;
  std::string tune(const ProductFile& before, const std::function<void(const TimedProduct&)>& found) override;
  std::string usage() const override;

  int64_t linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) override;
  int64_t linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) override;
  int64_t linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) override;

 protected:
  void multiply(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, void* workspace) override;
  void run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) override;
  void run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) override;

 private:
  void choose_device(const DevicePlace& place);
  void try_a_kernel() const;
  void take_products(const ProductFile& file);

  int device_ = 0;
  std::string description_, architecture_;  // the latter as nvcc counts: "90"
  std::optional<CudaStream> compute_;       // once the device is chosen
  DeviceHandle handle_;
  std::optional<CudaUploads> uploads_;
  std::unique_ptr<CublasLt> products_;
  TuningPlace tuning_place_;
  std::string tuned_file_;
  CudaGraph graph_;
};

}  // namespace llama_tp
