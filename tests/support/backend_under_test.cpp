#include "support/backend_under_test.h"

#include "backend/cpu/cpu_backend.h"

namespace llama_tp {

std::unique_ptr<Backend> backend_under_test(int threads) { return make_cpu_backend({.threads = threads}); }
std::vector<int> thread_counts_under_test() { return {1, 2, 2, 5}; }

}  // namespace llama_tp
