// Ranks with a CUDA device each, where CUDA and NCCL are doubled (double.h, nccl_double.h).
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "cuda/double.h"
#include "cuda/nccl_double.h"
#include "parallel/mesh.h"
#include "support/ranks.h"

namespace llama_tp {

inline NcclDouble& nccl_double() {
  static NcclDouble* const one = [] {
    const std::string beside = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    void* const library = dlopen((beside + "/cuda/libnccl.so.2").c_str(), RTLD_NOW);
    require(library != nullptr, dlerror());
    return static_cast<NcclDouble*>(dlsym(library, "nccl_double"));
  }();
  return *one;
}

// All ranks as one tensor group, with a value on each one's device.
class CudaRanks : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("SLURM_JOB_ID");
    nccl_double() = {};
    cuda_double() = {};
    cuda_double().devices = ranks().size();
    backend_ = make_backend("cuda", ranks().place());
    mesh_ = std::make_unique<Mesh>(ranks(), MeshShape{1, 1, ranks().size()}, 1, *backend_);
    arena_.reserve(*backend_, 2 * Arena::alignment);
    value_ = arena_.push(Category::data, {1}, DType::f32);
    pair_ = arena_.push(Category::data, {2}, DType::f32);
  }
  void TearDown() override { cuda_double() = {}; }

  Ledger ledger_;
  std::unique_ptr<Backend> backend_;
  Arena arena_{"memory", ledger_};
  std::unique_ptr<Mesh> mesh_;
  Tensor value_, pair_;
};

}  // namespace llama_tp
