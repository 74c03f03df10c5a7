#include "backend/device.h"

#include "backend/cpu/cpu_backend.h"

namespace llama_tp {

std::unique_ptr<Backend> make_backend(const std::string& name, int threads) {
  require(name == "auto" || name == "cpu", "--backend ", name, " is not in this build; it can be auto or cpu");
  return make_cpu_backend(threads);
}

}  // namespace llama_tp
