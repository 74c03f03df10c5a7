// cuBLASLt for tests where there is no GPU, in the place of the library that would be opened: products by their
// definition, on the emulated device's memory. It refuses what its documentation forbids: layouts that do not fit each
// other, matrices that are not aligned as was promised to the heuristic, scratch that is missing, an algorithm of
// another product.
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace llama_tp {

struct DoubledAlgorithm {
  double seconds = 1e-3;  // of a call
  double scatter = 0;     // of these, how far they go to and fro, slowly
  size_t workspace = 256;
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
  bool starts = true;        // when it is asked to multiply
  bool passes_check = true;  // cublasLtMatmulAlgoCheck
};

struct CublasLtDouble {
  size_t version = 130102;
  std::vector<DoubledAlgorithm> algorithms{{}};  // as its heuristic lists them
  size_t slow_from = 0, slow_calls = 0;          // calls that something else on the device makes ten times as long
  double drift = 0;                // by which each call is slower than the one before it, as a share of the first
  std::vector<size_t> multiplied;  // by which of them, call after call
};
CublasLtDouble& cublas_lt_double();

}  // namespace llama_tp
