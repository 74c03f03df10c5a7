#include "ptx/global_memory.h"

#include <iterator>
#include <map>

#include "base/error.h"

namespace llama_tp::ptx {

namespace {

// Where most accesses lie: as the one before.
struct {
  uint64_t begin = 0, end = 0;
} found_last;

std::map<uint64_t, size_t>& reserved() {
  static std::map<uint64_t, size_t> sizes;
  return sizes;
}

}  // namespace

void add_memory(const void* from, size_t bytes) {
  reserved()[reinterpret_cast<uint64_t>(from)] = bytes;
  found_last = {};
}
void remove_memory(const void* from) {
  reserved().erase(reinterpret_cast<uint64_t>(from));
  found_last = {};
}

char* global_memory(uint64_t address, size_t bytes, size_t alignment) {
  require(address % alignment == 0, "a misaligned access of ", bytes, " bytes in global memory");
  if (address < found_last.begin || address + bytes > found_last.end) {
    const auto behind = reserved().upper_bound(address);
    require(behind != reserved().begin(), "an access below all memory that is reserved");
    const auto [from, size] = *std::prev(behind);
    require(address + bytes <= from + size, "an access ", address - from, " bytes behind the beginning of memory of ",
            size, " bytes");
    found_last = {from, from + size};
  }
  return reinterpret_cast<char*>(address);
}

}  // namespace llama_tp::ptx
