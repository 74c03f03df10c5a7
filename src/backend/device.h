// The one place that knows which backends there are.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "backend/product_tuner.h"

namespace llama_tp {

// Where a rank is on its host, and what it was told of the device there.
struct DevicePlace {
  int threads = 1;     // of the CPU backend
  int local_rank = 0;  // among the ranks of the host: its CUDA device
  int local_size = 1;  // of the ranks of the host, which share its memory
  std::string host = "this host";
  ProductFile products = {};  // of bench --tune-products
};

// name: "auto", "cpu" or "cuda". auto is cuda where this build has it and there is a device for it, else cpu; the backend's
// description says why. Errors: another name; cuda in a build without it; tuned products for the CPU; CudaBackend's.
std::unique_ptr<Backend> make_backend(const std::string& name, const DevicePlace& place);

// An NVIDIA GPU that need not be there, for plans: in every build, with the same answers. Runs nothing.
std::unique_ptr<Backend> make_cuda_on_paper();

}  // namespace llama_tp
