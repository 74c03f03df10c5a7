#include "backend/cuda/cublas_lt_library.h"

#include "base/error.h"
#include "base/shared_library.h"

namespace llama_tp {

CublasLtLibrary open_cublas_lt() {
  const SharedLibrary file(text("libcublasLt.so.", CUBLAS_VER_MAJOR));
  return {.create = file.symbol("cublasLtCreate"),
          .destroy = file.symbol("cublasLtDestroy"),
          .version = file.symbol("cublasLtGetVersion"),
          .create_operation = file.symbol("cublasLtMatmulDescCreate"),
          .destroy_operation = file.symbol("cublasLtMatmulDescDestroy"),
          .set_operation = file.symbol("cublasLtMatmulDescSetAttribute"),
          .create_layout = file.symbol("cublasLtMatrixLayoutCreate"),
          .destroy_layout = file.symbol("cublasLtMatrixLayoutDestroy"),
          .create_preference = file.symbol("cublasLtMatmulPreferenceCreate"),
          .destroy_preference = file.symbol("cublasLtMatmulPreferenceDestroy"),
          .set_preference = file.symbol("cublasLtMatmulPreferenceSetAttribute"),
          .heuristic = file.symbol("cublasLtMatmulAlgoGetHeuristic"),
          .check_algorithm = file.symbol("cublasLtMatmulAlgoCheck"),
          .get_config = file.symbol("cublasLtMatmulAlgoConfigGetAttribute"),
          .multiply = file.symbol("cublasLtMatmul")};
}

}  // namespace llama_tp
