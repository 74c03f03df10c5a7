#include "backend/cuda/cublas_lt.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "backend/cuda/cublas_lt_library.h"
#include "base/error.h"

namespace llama_tp {

namespace {

// Where k is divided, the parts' sums stay in f32.
constexpr uint32_t allowed_reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
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

// An algorithm may be kept as bytes, for the same version of the library (its header says so).
cublasLtMatmulAlgo_t algorithm_from(const AlgorithmBytes& bytes) {
  cublasLtMatmulAlgo_t algorithm{};
  static_assert(sizeof algorithm == sizeof bytes);
  std::memcpy(&algorithm, bytes.data(), sizeof algorithm);
  return algorithm;
}

AlgorithmBytes bytes_of(const cublasLtMatmulAlgo_t& algorithm) {
  AlgorithmBytes bytes{};
  std::memcpy(bytes.data(), &algorithm, sizeof algorithm);
  return bytes;
}

}  // namespace

// A product's descriptors, and the algorithm that it is computed by.
struct CublasLt::Prepared {
  Prepared(const CublasLtLibrary& from, void* handle_, const Product& product_)
      : library(from), handle(static_cast<cublasLtHandle_t>(handle_)), product(product_) {
    check(library.create_operation(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    set(CUBLASLT_MATMUL_DESC_TRANSA, product.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, product.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (product.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_of(product.in));
    }
    make_layout(a, product.in, product.rows_of_a(), product.columns_of_a());
    make_layout(b, product.in, product.rows_of_b(), product.columns_of_b());
    make_layout(c, product.out, product.m, product.n);
  }

  ~Prepared() {
    for (const cublasLtMatrixLayout_t layout : {a, b, c}) library.destroy_layout(layout);
    library.destroy_operation(operation);
  }
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) const {
    check(library.set_operation(operation, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  }

  void make_layout(cublasLtMatrixLayout_t& layout, DType dtype, int64_t rows, int64_t columns) const {
    check(library.create_layout(&layout, type_of(dtype), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns),
                                rows),
          "cublasLtMatrixLayoutCreate");
  }

  // The library takes a bias' alignment from where it lies, before and after it has been used.
  void set_bias(const void* bias) const {
    if (product.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  void promise_bias() const { set_bias(reinterpret_cast<const void*>(widest_access)); }

  // What the heuristic names for the product, the best by its own estimate first. Errors: there is none.
  std::vector<ProductAlgorithm> named(int most) const {
    promise_bias();
    cublasLtMatmulPreference_t preference = nullptr;
    check(library.create_preference(&preference), "cublasLtMatmulPreferenceCreate");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check(library.set_preference(preference, attribute, &value, sizeof value),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<size_t>(most_product_workspace));
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, allowed_reduction);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(product.rows_of_a(), product.in));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(product.rows_of_b(), product.in));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(product.m, product.out));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(product.m, product.out));
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
    int found = 0;
    const cublasStatus_t status =
        library.heuristic(handle, operation, a, b, c, c, preference, most, results.data(), &found);
    library.destroy_preference(preference);
    std::vector<ProductAlgorithm> all;
    for (int i = 0; i < found; i++)
      if (const auto& result = results[static_cast<size_t>(i)]; result.state == CUBLAS_STATUS_SUCCESS)
        all.push_back({bytes_of(result.algo), result.workspaceSize});
    require(status == CUBLAS_STATUS_SUCCESS && !all.empty(), "cuda: cuBLASLt has no algorithm for the product ",
            words(), " (status ", static_cast<int>(status), ")");
    return all;
  }

  // Why an algorithm from elsewhere must not compute the product; "" where it may, with its workspace set.
  std::string why_not(ProductAlgorithm& given) const {
    promise_bias();
    const cublasLtMatmulAlgo_t checked = algorithm_from(given.bytes);
    cublasLtMatmulHeuristicResult_t result{};
    const cublasStatus_t status = library.check_algorithm(handle, operation, a, b, c, c, &checked, &result);
    if (status != CUBLAS_STATUS_SUCCESS)
      return text("cuBLASLt does not take it (status ", static_cast<int>(status), ")");
    uint32_t reduction = 0;
    size_t written = 0;
    check(library.get_config(&checked, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &reduction, sizeof reduction, &written),
          "cublasLtMatmulAlgoConfigGetAttribute");
    if ((reduction & ~allowed_reduction) != 0) return text("it adds parts of sums otherwise than in f32");
    if (result.workspaceSize > static_cast<size_t>(most_product_workspace))
      return text("it needs ", result.workspaceSize, " bytes of scratch, of which there are ", most_product_workspace);
    given.workspace = result.workspaceSize;
    return "";
  }

  void take(const AlgorithmBytes& bytes, const std::string& path) {
    algorithm.bytes = bytes;
    const std::string why = why_not(algorithm);
    require(why.empty(), path, ": its algorithm for the product ", words(), ": ", why,
            "; tune it again with bench --tune-products, or leave --products out");
  }

  cublasStatus_t run(kernels::Stream stream, const ProductAlgorithm& by, const ProductOperands& on) const {
    set_bias(on.bias);
    const cublasLtMatmulAlgo_t chosen = algorithm_from(by.bytes);
    const float alpha = 1, beta = product.accumulate ? 1 : 0;
    return library.multiply(handle, operation, &alpha, on.a, a, on.b, b, &beta, on.c, c, on.c, c, &chosen, on.workspace,
                            by.workspace, stream);
  }

  std::string words() const { return text(kind_of(product), ", m ", product.m, ", n ", product.n, ", k ", product.k); }

  const CublasLtLibrary& library;
  cublasLtHandle_t handle;
  Product product;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  ProductAlgorithm algorithm;
};

CublasLt::CublasLt() : library_(std::make_unique<CublasLtLibrary>(open_cublas_lt())) {
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
  if (const auto tuned = tuned_.products.find(product); tuned != tuned_.products.end())
    made->take(tuned->second.algorithm, tuned_.path);
  else
    made->algorithm = made->named(1).at(0);
  return *products_.emplace(product, std::move(made)).first->second;
}

int64_t CublasLt::workspace(const Product& product) {
  return static_cast<int64_t>(prepared(product).algorithm.workspace);
}

void CublasLt::multiply(kernels::Stream stream, const Product& product, const ProductOperands& operands) {
  Prepared& how = prepared(product);
  check(how.run(stream, how.algorithm, operands), "cublasLtMatmul");
}

bool CublasLt::multiply_by(kernels::Stream stream, const Product& product, const ProductAlgorithm& algorithm,
                           const ProductOperands& operands) {
  return prepared(product).run(stream, algorithm, operands) == CUBLAS_STATUS_SUCCESS;
}

bool CublasLt::takes(const Product& product, const AlgorithmBytes& algorithm) {
  ProductAlgorithm given{algorithm, 0};
  return prepared(product).why_not(given).empty();
}

std::vector<Product> CublasLt::products() const {
  std::vector<Product> all;
  for (const auto& [product, how] : products_) all.push_back(product);
  return all;
}

int64_t CublasLt::count_of_file() const {
  return std::count_if(products_.begin(), products_.end(),
                       [&](const auto& entry) { return tuned_.products.contains(entry.first); });
}

// All but the first by the checks that an algorithm of a file has to pass: a run would refuse the others.
std::vector<ProductAlgorithm> CublasLt::algorithms(const Product& product, int most) {
  const Prepared& how = prepared(product);
  std::vector<ProductAlgorithm> all = how.named(1);
  for (ProductAlgorithm& other : how.named(most)) {
    const bool known = std::any_of(all.begin(), all.end(), [&](const auto& one) { return one.bytes == other.bytes; });
    if (!known && static_cast<int>(all.size()) < most && how.why_not(other).empty()) all.push_back(other);
  }
  return all;
}

}  // namespace llama_tp
