#include "support/backend_under_test.h"

namespace llama_tp {

MemoryUnderTest memory_under_test(size_t bytes) {
  return {new char[bytes](), [](char* memory) { delete[] memory; }};
}

}  // namespace llama_tp
