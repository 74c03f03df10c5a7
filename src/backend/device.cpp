#include "backend/device.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_on_paper.h"
#ifdef LLAMA_TP_CUDA_ARCH
#include "backend/cuda/cuda_backend.h"
#endif

namespace llama_tp {

namespace {

#ifdef LLAMA_TP_CUDA_ARCH
std::string why_no_cuda() { return why_no_cuda_device(); }
std::unique_ptr<Backend> make_cuda_backend(const DevicePlace& place) { return std::make_unique<CudaBackend>(place); }
#else
std::string why_no_cuda() { return "this build has no CUDA"; }
std::unique_ptr<Backend> make_cuda_backend(const DevicePlace&) {
  fail("--backend cuda: ", why_no_cuda(),
       "; build where there is nvcc (make prints what it found), or take --backend cpu");
}
#endif

}  // namespace

std::unique_ptr<Backend> make_backend(const std::string& name, const DevicePlace& place) {
  require(name == "auto" || name == "cpu" || name == "cuda", "--backend ", name, ": it can be auto, cpu or cuda");
  const std::string why_not = name == "auto" ? why_no_cuda() : "";
  const bool cpu = name == "cpu" || !why_not.empty();
  require(!cpu || !place.products.given(), "--products ", place.products.path,
          ": the CPU backend has no products to choose for", why_not.empty() ? "" : " (" + why_not + ")",
          "; leave it out, or take --backend cuda");
  return cpu ? make_cpu_backend(place, why_not) : make_cuda_backend(place);
}

std::unique_ptr<Backend> make_cuda_on_paper() { return std::make_unique<CudaOnPaper>(); }

}  // namespace llama_tp
