// Matrix products by oneDNN. A primitive is made once for each exact shape (about a millisecond; shapes left open until
// run time fall to slow code) and kept; its scratch memory is the caller's. oneDNN's own headers and the differences
// between its versions 2 and 3 stay in onednn.cpp.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/dtype.h"

namespace llama_tp {

// c[m, n] = or += a[m, k] · b[k, n] + bias[n], all dense and row-major but for what is said; sums in f32.
struct OneDnnProduct {
  int64_t m = 0, n = 0, k = 0;
  DType input = DType::f32, output = DType::f32;  // of a, b and bias; of c
  bool a_transposed = false;                      // a is stored as [k, m]
  bool b_transposed = false;                      // b is stored as [n, k]
  bool b_packed = false;                          // b lies as packed_copy.h has it
  bool bias = false;
  bool accumulate = false;  // into c, which must be f32

  auto operator<=>(const OneDnnProduct&) const =
      default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 sees a 0 in it
};

class OneDnn {
 public:
  explicit OneDnn(int threads);
  ~OneDnn();

  // Whether the code for this product, whatever it says of b, wants it packed, and packs it itself where it is not.
  bool prefers_packed(const OneDnnProduct& product);
  // Bytes of scratch memory; makes the primitive. Errors: oneDNN has none for this product.
  int64_t workspace(const OneDnnProduct& product);
  // Makes no primitive that workspace() has made. oneDNN itself takes and returns some hundred bytes for its list of
  // arguments, and on a CPU without AVX512 the buffers of its older code ("gemm:jit"), which knows no user's
  // scratchpad.
  void run(const OneDnnProduct& product, const void* a, const void* b, const void* bias, void* c, void* workspace);

  // Whether every product keeps to the caller's scratch memory: the code for AVX512 does.
  static bool keeps_to_workspace();
  // The instructions for bf16 products that this CPU has and oneDNN uses ("AMX", "AVX512-BF16"), or "". The variable
  // ONEDNN_MAX_CPU_ISA may forbid them.
  static std::string_view bf16_instructions();
  static std::string version();

 private:
  struct Cache;
  int threads_of(const OneDnnProduct& product) const;
  const int threads_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace llama_tp
