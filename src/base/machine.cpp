#include "base/machine.h"

#include <string>

namespace llama_tp {

void check_machine() {
#if defined(__x86_64__)
  std::string missing;
  const auto expect = [&missing](bool has, const char* name) {
    if (!has) missing += (missing.empty() ? "" : ", ") + std::string(name);
  };
  __builtin_cpu_init();
#ifdef __AVX2__
  expect(__builtin_cpu_supports("avx2"), "AVX2");
#endif
#ifdef __FMA__
  expect(__builtin_cpu_supports("fma"), "FMA");
#endif
#ifdef __AVX512F__
  expect(__builtin_cpu_supports("avx512f"), "AVX512F");
#endif
#ifdef __AVX512BW__
  expect(__builtin_cpu_supports("avx512bw"), "AVX512BW");
#endif
#ifdef __AVX512VBMI2__
  expect(__builtin_cpu_supports("avx512vbmi2"), "AVX512-VBMI2");
#endif
#ifdef __AVX512BF16__
  expect(__builtin_cpu_supports("avx512bf16"), "AVX512-BF16");
#endif
  require(missing.empty(), "this program was compiled for ARCH=" LLAMA_TP_ARCH ", but this processor has no ", missing,
          "; compile it here, or with make ARCH=x86-64-v2");
#endif
}

}  // namespace llama_tp
