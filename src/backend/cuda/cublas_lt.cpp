#include "backend/cuda/cublas_lt.h"

#include <cublasLt.h>

#include <algorithm>
#include <exception>

#include "base/error.h"
#include "base/shared_library.h"

namespace llama_tp {

namespace {

// Large enough for every algorithm that a Hopper's heuristic prefers (NVIDIA's own advice is 32 MiB).
constexpr size_t most_workspace = size_t{32} << 20;
// The widest load of a kernel.
constexpr int64_t widest_access = 16;

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) fail("cuda: ", what, " failed with status ", static_cast<int>(status));
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

// Of a matrix whose columns have `rows` elements: what the start of any column is a multiple of.
uint32_t alignment_of(int64_t rows, DType dtype) {
  const int64_t pitch = rows * size_of(dtype);
  return static_cast<uint32_t>(std::min(widest_access, pitch & -pitch));
}

}  // namespace

struct CublasLt::Library {
  SharedLibrary file{text("libcublasLt.so.", CUBLAS_VER_MAJOR)};
  decltype(&cublasLtCreate) create = file.symbol("cublasLtCreate");
  decltype(&cublasLtDestroy) destroy = file.symbol("cublasLtDestroy");
  decltype(&cublasLtGetVersion) version = file.symbol("cublasLtGetVersion");
  decltype(&cublasLtMatmulDescCreate) create_operation = file.symbol("cublasLtMatmulDescCreate");
  decltype(&cublasLtMatmulDescDestroy) destroy_operation = file.symbol("cublasLtMatmulDescDestroy");
  decltype(&cublasLtMatmulDescSetAttribute) set_operation = file.symbol("cublasLtMatmulDescSetAttribute");
  decltype(&cublasLtMatrixLayoutCreate) create_layout = file.symbol("cublasLtMatrixLayoutCreate");
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = file.symbol("cublasLtMatrixLayoutDestroy");
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = file.symbol("cublasLtMatmulPreferenceCreate");
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = file.symbol("cublasLtMatmulPreferenceDestroy");
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = file.symbol("cublasLtMatmulPreferenceSetAttribute");
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = file.symbol("cublasLtMatmulAlgoGetHeuristic");
  decltype(&cublasLtMatmul) multiply = file.symbol("cublasLtMatmul");
};

// A product's descriptors, and the algorithm that the heuristic named for them.
struct CublasLt::Prepared {
  Prepared(const Library& from, void* handle, const Product& product) : library(from) {
    check(library.create_operation(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, product.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, product.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (product.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(product.in));
      // The heuristic asks whether there is a bias, not where. NOLINTNEXTLINE(performance-no-int-to-ptr)
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<const void*>(widest_access));
    }
    make_layout(a, product.in, product.rows_of_a(), product.columns_of_a());
    make_layout(b, product.in, product.rows_of_b(), product.columns_of_b());
    make_layout(c, product.out, product.m, product.n);
    choose(handle, product);
  }

  ~Prepared() {
    for (const cublasLtMatrixLayout_t layout : {a, b, c}) library.destroy_layout(layout);
    library.destroy_operation(operation);
  }
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    check(library.set_operation(operation, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }

  void make_layout(cublasLtMatrixLayout_t& layout, DType dtype, int64_t rows, int64_t columns) const {
    check(library.create_layout(&layout, type_of(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns),
                                rows),
          "cublasLtMatrixLayoutCreate");
  }

  void choose(void* handle, const Product& product) {
    cublasLtMatmulPreference_t preference = nullptr;
    check(library.create_preference(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(library.set_preference(preference, attribute, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, most_workspace);
    // Where k is divided, the parts' sums stay in f32.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(product.rows_of_a(), product.in));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(product.rows_of_b(), product.in));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(product.m, product.out));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(product.m, product.out));
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status =
        library.heuristic(static_cast<cublasLtHandle_t>(handle), operation, a, b, c, c, preference, 1, &best, &found);
    library.destroy_preference(preference);
    require(status == CUBLAS_STATUS_SUCCESS && found == 1, "cuda: cuBLASLt has no algorithm for a product of ",
            name_of(product.in), " [", product.m, ", ", product.k, "] and [", product.k, ", ", product.n, "] into ",
            name_of(product.out), product.bias ? " with a bias" : "", " (status ", static_cast<int>(status), ")");
    algorithm = best.algo;
    workspace = best.workspaceSize;
  }

  const Library& library;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  size_t workspace = 0;
};

CublasLt::CublasLt() : library_(std::make_unique<Library>()) {
  cublasLtHandle_t handle = nullptr;
  check(library_->create(&handle), "cublasLtCreate");
  handle_ = handle;
}

// While an error unwinds, the device may have work that never ends, for which the library would wait.
CublasLt::~CublasLt() {
  products_.clear();
  if (std::uncaught_exceptions() == 0) library_->destroy(static_cast<cublasLtHandle_t>(handle_));
}

std::string CublasLt::version() const {
  const size_t version = library_->version();  // 13.1.2: 130102
  return text(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

CublasLt::Prepared& CublasLt::prepared(const Product& product) {
  const auto known = products_.find(product);
  if (known != products_.end()) return *known->second;
  auto made = std::make_unique<Prepared>(*library_, handle_, product);
  return *products_.emplace(product, std::move(made)).first->second;
}

int64_t CublasLt::workspace(const Product& product) { return static_cast<int64_t>(prepared(product).workspace); }

void CublasLt::multiply(kernels::Stream stream, const Product& product, const void* a, const void* b, const void* bias,
                        void* c, void* workspace) {
  Prepared& how = prepared(product);
  if (product.bias) how.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  const float alpha = 1, beta = product.accumulate ? 1 : 0;
  check(library_->multiply(static_cast<cublasLtHandle_t>(handle_), how.operation, &alpha, a, how.a, b, how.b, &beta, c,
                           how.c, c, how.c, &how.algorithm, workspace, how.workspace, stream),
        "cublasLtMatmul");
}

}  // namespace llama_tp
