#pragma once

#include <memory>

#include "support/golden_model.h"

namespace llama_tp {

// A model on the doubled device.
struct CudaModel : GoldenModel {
  explicit CudaModel(const char* name) : GoldenModel(name, DType::f32) {
    runtime.reset();
    backend = make_backend("cuda", {});
    runtime = std::make_unique<Runtime>(*backend, mesh->groups(), DType::f32);
  }
  ~CudaModel() override { runtime.reset(); }
};

}  // namespace llama_tp
