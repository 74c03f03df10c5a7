// What code compiled with -fsanitize=thread calls, in place of ThreadSanitizer: it says where it reads and writes.
#include <cstddef>
#include <cstdint>

#include "emulation/accesses.h"

using llama_tp::emulation::note_access;

#define LLAMA_TP_ACCESS(name, bytes, writes) \
  void __tsan_##name(void* at) { note_access(at, bytes, writes, __builtin_return_address(0)); }
// clang names accesses of less than their natural alignment.
#define LLAMA_TP_ACCESSES(bytes)                       \
  LLAMA_TP_ACCESS(read##bytes, bytes, false)           \
  LLAMA_TP_ACCESS(write##bytes, bytes, true)           \
  LLAMA_TP_ACCESS(unaligned_read##bytes, bytes, false) \
  LLAMA_TP_ACCESS(unaligned_write##bytes, bytes, true)
#define LLAMA_TP_ATOMIC(bits, Integer)                                                         \
  Integer __tsan_atomic##bits##_fetch_add(volatile Integer* at, Integer value, int) {          \
    note_access(const_cast<Integer*>(at), sizeof(Integer), true, __builtin_return_address(0)); \
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);                                    \
  }                                                                                            \
  Integer __tsan_atomic##bits##_load(const volatile Integer* at, int) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); }

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}
// What lies between is the host's, which is not recorded anyway.
void __tsan_ignore_thread_begin() {}
void __tsan_ignore_thread_end() {}

LLAMA_TP_ACCESSES(1)
LLAMA_TP_ACCESSES(2)
LLAMA_TP_ACCESSES(4)
LLAMA_TP_ACCESSES(8)
LLAMA_TP_ACCESSES(16)

void __tsan_read_range(void* at, size_t bytes) { note_access(at, bytes, false, __builtin_return_address(0)); }
void __tsan_write_range(void* at, size_t bytes) { note_access(at, bytes, true, __builtin_return_address(0)); }

LLAMA_TP_ATOMIC(32, uint32_t)
LLAMA_TP_ATOMIC(64, uint64_t)

}  // extern "C"
