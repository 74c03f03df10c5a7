// A GPU on paper: what a step needs of scratch memory on any that runs this program's kernels, found without one and
// without CUDA. It runs nothing.
#pragma once

#include "backend/cuda/cuda_workspace.h"
#include "backend/cuda/product.h"
#include "backend/meta.h"

namespace llama_tp {

class CudaOnPaper : public CudaWorkspace<IdleBackend> {
 public:
  // What a product takes is for cuBLASLt to say, on the device. Here it takes the most that it is given.
  int64_t linear_forward_workspace(const Tensor& x, const Tensor&, const Tensor&, const Tensor& y) override {
    return y.elements() == 0 || x.shape[0] <= kernels::few_tokens ? 0 : most_product_workspace;
  }
  int64_t linear_backward_input_workspace(const Tensor& dy, const Tensor&, const Tensor& dx) override {
    return dx.elements() == 0 || dy.elements() == 0 ? 0 : most_product_workspace;
  }
  int64_t linear_backward_weight_workspace(const Tensor& dy, const Tensor&, const Tensor& dw) override {
    return dw.elements() == 0 || dy.elements() == 0 ? 0 : most_product_workspace;
  }
  std::string description() const override {
    return text("cuda: the kernels, and the ", most_product_workspace >> 20, " MiB that cuBLASLt has at most");
  }
};

}  // namespace llama_tp
