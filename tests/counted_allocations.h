// What a whole test program allocates while it is watched: functions of glibc's names, by its own under others. Included
// by one file of a program. Not where the sanitizers bring an allocator of their own.
#pragma once

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define COUNTS_ALLOCATIONS 1

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <functional>

namespace llama_tp {

struct Allocations {
  size_t count = 0, largest = 0, bytes = 0;
};

inline std::atomic<bool> watching_allocations{false};
inline std::atomic<size_t> allocation_count{0}, largest_allocation{0}, allocated_bytes{0};

inline void note_allocation(size_t bytes) {
  if (!watching_allocations) return;
  allocation_count++;
  allocated_bytes += bytes;
  if (bytes > largest_allocation) largest_allocation = bytes;
}

inline Allocations allocations_of(const std::function<void()>& body) {
  allocation_count = largest_allocation = allocated_bytes = 0;
  watching_allocations = true;
  body();
  watching_allocations = false;
  return {allocation_count, largest_allocation, allocated_bytes};
}

}  // namespace llama_tp

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t size) noexcept {
  llama_tp::note_allocation(size);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) noexcept {
  llama_tp::note_allocation(count * size);
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) noexcept {
  llama_tp::note_allocation(size);
  return __libc_realloc(old, size);
}
void* aligned_alloc(size_t alignment, size_t size) noexcept {
  llama_tp::note_allocation(size);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** result, size_t alignment, size_t size) noexcept {
  llama_tp::note_allocation(size);
  *result = __libc_memalign(alignment, size);
  return *result == nullptr ? ENOMEM : 0;
}
}

#endif
