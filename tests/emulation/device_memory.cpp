#include "emulation/device_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace llama_tp::emulation {

namespace {

struct Range {
  char* begin;
  size_t bytes;
};
std::vector<Range> reserved;
int accesses = 0;

size_t page() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }
size_t whole_pages(int64_t bytes) { return (static_cast<size_t>(bytes) + page() - 1) / page() * page(); }

void protect(int protection) {
  for (const Range& range : reserved)
    if (range.bytes > 0 && mprotect(range.begin, range.bytes, protection) != 0)
      fail("emulation: mprotect of ", range.bytes, " bytes failed");
}

}  // namespace

void* reserve_device_memory(int64_t bytes) {
  const size_t inner = whole_pages(bytes);
  void* const outer = mmap(nullptr, inner + 2 * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(outer != MAP_FAILED, "emulation: no memory of ", bytes, " bytes");
  char* const base = static_cast<char*>(outer) + page();
  reserved.push_back({base, inner});
  if (accesses > 0) protect(PROT_READ | PROT_WRITE);
  return base;
}

void release_device_memory(void* base, int64_t bytes) {
  std::erase_if(reserved, [&](const Range& range) { return range.begin == base; });
  munmap(static_cast<char*>(base) - page(), whole_pages(bytes) + 2 * page());
}

bool is_device_memory(const void* at) {
  const auto* const byte = static_cast<const char*>(at);
  return std::any_of(reserved.begin(), reserved.end(),
                     [&](const Range& range) { return byte >= range.begin && byte < range.begin + range.bytes; });
}

DeviceAccess::DeviceAccess() {
  if (accesses++ == 0) protect(PROT_READ | PROT_WRITE);
}

DeviceAccess::~DeviceAccess() {
  if (--accesses == 0) protect(PROT_NONE);
}

}  // namespace llama_tp::emulation
