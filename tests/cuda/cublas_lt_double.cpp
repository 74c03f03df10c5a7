#include "cuda/cublas_lt_double.h"

#include <cmath>
#include <cstring>
#include <map>

#include "backend/cuda/cublas_lt_library.h"
#include "base/dtype.h"
#include "base/error.h"
#include "cuda/double.h"
#include "emulation/device_memory.h"
#include "emulation/machine.h"

namespace llama_tp {

CublasLtDouble& cublas_lt_double() {
  static CublasLtDouble one;
  return one;
}

namespace {

struct Layout {
  cudaDataType_t type;
  uint64_t rows, columns;
  int64_t pitch;  // from one column to the next, in elements
  size_t width() const { return type == CUDA_R_16BF ? 2 : 4; }
};

struct Operation {
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  cudaDataType_t bias_type = CUDA_R_32F;
  const void* bias = nullptr;
  bool biased() const { return epilogue == CUBLASLT_EPILOGUE_BIAS; }
};

using Preference = std::map<cublasLtMatmulPreferenceAttributes_t, uint64_t>;

// What the 64 bytes of an algorithm are here.
struct Algorithm {
  uint64_t number;   // in the list, from 1
  uint64_t product;  // for which it was named
  uint64_t alignment_a, alignment_b, alignment_c, alignment_bias;
  uint64_t unused[2];
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));

Algorithm from_opaque(const cublasLtMatmulAlgo_t* opaque) {
  Algorithm algorithm{};
  std::memcpy(&algorithm, opaque, sizeof algorithm);
  return algorithm;
}

Layout& of(cublasLtMatrixLayout_t opaque) { return *reinterpret_cast<Layout*>(opaque); }
Operation& of(cublasLtMatmulDesc_t opaque) { return *reinterpret_cast<Operation*>(opaque); }
Preference& of(cublasLtMatmulPreference_t opaque) { return *reinterpret_cast<Preference*>(opaque); }

struct Sizes {
  uint64_t m, n, k;
};
Sizes sizes_of(const Operation& how, const Layout& a, const Layout& c) {
  return {c.rows, c.columns, how.transpose_a == CUBLAS_OP_T ? a.rows : a.columns};
}

bool fit(const Operation& how, const Layout& a, const Layout& b, const Layout& c) {
  const auto [m, n, k] = sizes_of(how, a, c);
  const bool of_a = how.transpose_a == CUBLAS_OP_T ? a.columns == m : a.rows == m;
  const bool of_b = how.transpose_b == CUBLAS_OP_T ? b.rows == n && b.columns == k : b.rows == k && b.columns == n;
  const bool dense = a.pitch == static_cast<int64_t>(a.rows) && b.pitch == static_cast<int64_t>(b.rows) &&
                     c.pitch == static_cast<int64_t>(c.rows);
  const bool types = a.type == b.type && (c.type == a.type || c.type == CUDA_R_32F);
  return of_a && of_b && dense && types && (!how.biased() || (c.type == a.type && how.bias_type == a.type));
}

// A number that other products do not have.
uint64_t number_of(const Operation& how, const Layout& a, const Layout& b, const Layout& c) {
  const auto [m, n, k] = sizes_of(how, a, c);
  uint64_t number = 1;
  for (const uint64_t part : {m, n, k, uint64_t{how.transpose_a}, uint64_t{how.transpose_b}, uint64_t{how.epilogue},
                              uint64_t{a.type}, uint64_t{b.type}, uint64_t{c.type}})
    number = number * 1000003 + part;
  return number;
}

template <class Attribute, class Value>
cublasStatus_t set(const void* from, size_t bytes, Value& to, Attribute) {
  if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// ---- what a handle is for

cublasStatus_t create(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(new int(0));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t destroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
size_t version() { return cublas_lt_double().version; }

// ---- descriptors

cublasStatus_t create_operation(cublasLtMatmulDesc_t* how, cublasComputeType_t compute, cudaDataType_t scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *how = reinterpret_cast<cublasLtMatmulDesc_t>(new Operation);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t destroy_operation(cublasLtMatmulDesc_t how) {
  delete &of(how);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t set_operation(cublasLtMatmulDesc_t how, cublasLtMatmulDescAttributes_t attribute, const void* from,
                             size_t bytes) {
  Operation& to = of(how);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return set(from, bytes, to.transpose_a, attribute);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return set(from, bytes, to.transpose_b, attribute);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return set(from, bytes, to.epilogue, attribute);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return set(from, bytes, to.bias_type, attribute);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return set(from, bytes, to.bias, attribute);
    default:
      return CUBLAS_STATUS_NOT_SUPPORTED;
  }
}

cublasStatus_t create_layout(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows, uint64_t columns,
                             int64_t pitch) {
  if (rows == 0 || columns == 0) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = reinterpret_cast<cublasLtMatrixLayout_t>(new Layout{type, rows, columns, pitch});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t destroy_layout(cublasLtMatrixLayout_t layout) {
  delete &of(layout);
  return CUBLAS_STATUS_SUCCESS;
}

// ---- algorithms

cublasStatus_t create_preference(cublasLtMatmulPreference_t* preference) {
  *preference = reinterpret_cast<cublasLtMatmulPreference_t>(new Preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t destroy_preference(cublasLtMatmulPreference_t preference) {
  delete &of(preference);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t set_preference(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                              const void* from, size_t bytes) {
  const size_t width = attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof(uint64_t) : sizeof(uint32_t);
  if (bytes != width) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&of(preference)[attribute], from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// The alignment that was promised, where every column of the matrix keeps the promise if the first one does; else 0.
uint64_t promised(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const Layout& layout) {
  const auto found = preference.find(attribute);
  const uint64_t bytes = found == preference.end() ? 256 : found->second;
  return bytes != 0 && static_cast<uint64_t>(layout.pitch) * layout.width() % bytes == 0 ? bytes : 0;
}

uint64_t alignment_of(const void* at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  return address & -address;
}

cublasStatus_t heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t how, cublasLtMatrixLayout_t a,
                         cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                         cublasLtMatmulPreference_t preference, int most, cublasLtMatmulHeuristicResult_t results[],
                         int* found) {
  Preference& wanted = of(preference);
  const uint64_t alignment_a = promised(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of(a)),
                 alignment_b = promised(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of(b)),
                 alignment_c = promised(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of(c)),
                 alignment_d = promised(wanted, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of(d));
  if (handle == nullptr || most < 1 || !fit(of(how), of(a), of(b), of(c)) || c != d || alignment_a * alignment_b == 0 ||
      alignment_c == 0 || alignment_c != alignment_d)
    return CUBLAS_STATUS_INVALID_VALUE;
  *found = 0;
  const auto& algorithms = cublas_lt_double().algorithms;
  for (size_t i = 0; i < algorithms.size() && *found < most; i++) {
    if (algorithms[i].workspace > wanted[CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES]) continue;
    if ((algorithms[i].reduction & ~wanted[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK]) != 0) continue;
    const Algorithm named{i + 1,       number_of(of(how), of(a), of(b), of(c)),
                          alignment_a, alignment_b,
                          alignment_c, alignment_of(of(how).bias),
                          {}};
    cublasLtMatmulHeuristicResult_t& result = results[(*found)++];
    std::memcpy(&result.algo, &named, sizeof named);
    result.workspaceSize = algorithms[i].workspace;
    result.state = CUBLAS_STATUS_SUCCESS;
  }
  return *found > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t check_algorithm(cublasLtHandle_t handle, cublasLtMatmulDesc_t how, cublasLtMatrixLayout_t a,
                               cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                               const cublasLtMatmulAlgo_t* opaque, cublasLtMatmulHeuristicResult_t* result) {
  const Algorithm algorithm = from_opaque(opaque);
  const auto& algorithms = cublas_lt_double().algorithms;
  if (handle == nullptr || c != d || algorithm.number == 0 || algorithm.number > algorithms.size() ||
      algorithm.product != number_of(of(how), of(a), of(b), of(c)))
    return CUBLAS_STATUS_INVALID_VALUE;
  result->workspaceSize = algorithms[algorithm.number - 1].workspace;
  return algorithms[algorithm.number - 1].passes_check ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t get_config(const cublasLtMatmulAlgo_t* opaque, cublasLtMatmulAlgoConfigAttributes_t attribute, void* to,
                          size_t bytes, size_t* written) {
  const Algorithm algorithm = from_opaque(opaque);
  if (attribute != CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME || bytes != sizeof(uint32_t))
    return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, &cublas_lt_double().algorithms.at(algorithm.number - 1).reduction, bytes);
  *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

// ---- products

bool lies(const void* at, uint64_t alignment) {
  return emulation::is_device_memory(at) && reinterpret_cast<uintptr_t>(at) % alignment == 0;
}

float value(const void* from, cudaDataType_t type, uint64_t i) {
  return type == CUDA_R_16BF ? to_float(static_cast<const bf16*>(from)[i]) : static_cast<const float*>(from)[i];
}

void compute(const Operation& how, const void* a, const Layout& of_a, const void* b, const Layout& of_b, float beta,
             void* c, const Layout& of_c) {
  const emulation::DeviceAccess access;
  const auto [m, n, k] = sizes_of(how, of_a, of_c);
  for (uint64_t i = 0; i < m; i++)
    for (uint64_t j = 0; j < n; j++) {
      float sum = how.biased() ? value(how.bias, how.bias_type, i) : 0;
      for (uint64_t l = 0; l < k; l++)
        sum += value(a, of_a.type, how.transpose_a == CUBLAS_OP_T ? i * k + l : l * m + i) *
               value(b, of_b.type, how.transpose_b == CUBLAS_OP_T ? l * n + j : j * k + l);
      const uint64_t at = j * m + i;
      if (beta != 0) sum += beta * value(c, of_c.type, at);
      if (of_c.type == CUDA_R_16BF)
        static_cast<bf16*>(c)[at] = to_bf16(sum);
      else
        static_cast<float*>(c)[at] = sum;
    }
}

double time_of(const DoubledAlgorithm& algorithm, size_t call) {
  constexpr double period = 60;  // calls: far more than those of a round
  const auto& [slow_from, slow_calls] = std::pair{cublas_lt_double().slow_from, cublas_lt_double().slow_calls};
  const double disturbed = call >= slow_from && call < slow_from + slow_calls ? 10 : 1;
  const double to_and_fro = std::sin(2 * M_PI / period * static_cast<double>(call));
  return algorithm.seconds * disturbed *
         (1 + algorithm.scatter * to_and_fro + cublas_lt_double().drift * static_cast<double>(call));
}

cublasStatus_t multiply(cublasLtHandle_t handle, cublasLtMatmulDesc_t how, const void* alpha, const void* a,
                        cublasLtMatrixLayout_t of_a, const void* b, cublasLtMatrixLayout_t of_b, const void* beta,
                        const void* c, cublasLtMatrixLayout_t of_c, void* d, cublasLtMatrixLayout_t of_d,
                        const cublasLtMatmulAlgo_t* opaque, void* workspace, size_t workspace_bytes, cudaStream_t) {
  require(emulation::recording() == nullptr, "the double records no products");
  cublasLtMatmulHeuristicResult_t needs{};
  const cublasStatus_t status = check_algorithm(handle, how, of_a, of_b, of_c, of_d, opaque, &needs);
  if (status == CUBLAS_STATUS_INVALID_VALUE) return status;
  const Algorithm algorithm = from_opaque(opaque);
  if (!cublas_lt_double().algorithms[algorithm.number - 1].starts) return CUBLAS_STATUS_EXECUTION_FAILED;
  const bool scratch = needs.workspaceSize == 0 || (workspace_bytes >= needs.workspaceSize && lies(workspace, 16) &&
                                                    lies(static_cast<char*>(workspace) + workspace_bytes - 1, 1));
  const bool matrices =
      c == d && lies(a, algorithm.alignment_a) && lies(b, algorithm.alignment_b) && lies(d, algorithm.alignment_c);
  const bool bias = !of(how).biased() || lies(of(how).bias, algorithm.alignment_bias);
  if (!scratch || !matrices || !bias || *static_cast<const float*>(alpha) != 1) return CUBLAS_STATUS_INVALID_VALUE;
  compute(of(how), a, of(of_a), b, of(of_b), *static_cast<const float*>(beta), d, of(of_d));
  auto& multiplied = cublas_lt_double().multiplied;
  cuda_double().clock += time_of(cublas_lt_double().algorithms[algorithm.number - 1], multiplied.size());
  multiplied.push_back(algorithm.number - 1);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

CublasLtLibrary open_cublas_lt() {
  return {create,         destroy,       version,         create_operation,  destroy_operation,
          set_operation,  create_layout, destroy_layout,  create_preference, destroy_preference,
          set_preference, heuristic,     check_algorithm, get_config,        multiply};
}

}  // namespace llama_tp
