#include "backend/cpu/huge_pages.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstring>

namespace llama_tp {

namespace {
constexpr uintptr_t huge_page = uintptr_t{2} << 20;

// `bytes` rounded up to whole pages: what stays mapped, and is given back.
size_t whole_pages(int64_t bytes) { return (static_cast<size_t>(bytes) + huge_page - 1) / huge_page * huge_page; }
}  // namespace

void* take_pages(int64_t bytes) {
  const size_t size = whole_pages(bytes);
  // A page more than that, so that the start can be moved to a multiple of one.
  void* mapped = mmap(nullptr, size + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  // The slack before and after goes back at once, so that giving back needs no record of it.
  char* const start = static_cast<char*>(mapped);
  const size_t before = (huge_page - reinterpret_cast<uintptr_t>(mapped) % huge_page) % huge_page;
  if (before > 0) munmap(start, before);
  if (before < huge_page) munmap(start + before + size, huge_page - before);
#if defined(MADV_HUGEPAGE)
  madvise(start + before, size, MADV_HUGEPAGE);
#endif
  return start + before;
}

void give_pages_back(void* base, int64_t bytes) {
  if (base != nullptr) munmap(base, whole_pages(bytes));
}

const char* huge_page_policy() {
  char line[64] = {};
  std::FILE* file = std::fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
  if (file == nullptr) return "unknown";
  const bool read = std::fgets(line, sizeof line, file) != nullptr;
  std::fclose(file);
  if (read && std::strstr(line, "[always]") != nullptr) return "always";
  if (read && std::strstr(line, "[madvise]") != nullptr) return "madvise";
  if (read && std::strstr(line, "[never]") != nullptr) return "never";
  return "unknown";
}

}  // namespace llama_tp
