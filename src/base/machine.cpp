#include "base/machine.h"

#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace llama_tp {

void check_machine() {
  std::string missing;
  [[maybe_unused]] const auto expect = [&missing](bool has, const char* name) {
    if (!has) missing += (missing.empty() ? "" : ", ") + std::string(name);
  };
#if defined(__x86_64__)
  constexpr const char* older = "x86-64-v2";
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
#else  // of processors other than these two nothing is known
  constexpr const char* older = "armv8-a";
#if defined(__ARM_FEATURE_ATOMICS) && defined(HWCAP_ATOMICS)
  expect((getauxval(AT_HWCAP) & HWCAP_ATOMICS) != 0, "LSE");
#endif
#if defined(__ARM_FEATURE_SVE) && defined(HWCAP_SVE)
  expect((getauxval(AT_HWCAP) & HWCAP_SVE) != 0, "SVE");
#endif
#if defined(__ARM_FEATURE_SVE2) && defined(HWCAP2_SVE2)
  expect((getauxval(AT_HWCAP2) & HWCAP2_SVE2) != 0, "SVE2");
#endif
#endif
  require(missing.empty(), "this program was compiled for ARCH=" LLAMA_TP_ARCH ", but this processor has no ", missing,
          "; compile it here, or with make ARCH=", older);
}

}  // namespace llama_tp
