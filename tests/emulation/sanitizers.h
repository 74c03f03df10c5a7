// Where the emulation tells sanitizers what it does; without them each of these does nothing. EMULATION_TSAN and
// EMULATION_ASAN say that the kernels are compiled with one. The emulation's own files are not: what the scheduler
// writes down is no business of CUDA threads, and a thread that ends leaves frames of the emulation on its stack.
#pragma once

#include <cstddef>

#ifdef EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" void __tsan_read_range(void* address, unsigned long size);
extern "C" void __tsan_write_range(void* address, unsigned long size);
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif
#ifdef EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace llama_tp::emulation {

// A thread as ThreadSanitizer sees it: its clock knows what happened before. Switching orders nothing by itself.
class Clock {
 public:
#ifdef EMULATION_TSAN
  static Clock current() { return Clock(__tsan_get_current_fiber()); }
  static Clock fresh() { return Clock(__tsan_create_fiber(0)); }
  void resume() const { __tsan_switch_to_fiber(fiber_, __tsan_switch_to_fiber_no_sync); }

 private:
  explicit Clock(void* fiber) : fiber_(fiber) {}
  void* fiber_;
#else
  static Clock current() { return {}; }
  static Clock fresh() { return {}; }
  void resume() const {}
#endif
};

// What a thread did before a release at an address happens before what another does after an acquire there.
inline void release([[maybe_unused]] void* at) {
#ifdef EMULATION_TSAN
  __tsan_release(at);
#endif
}
inline void acquire([[maybe_unused]] void* at) {
#ifdef EMULATION_TSAN
  __tsan_acquire(at);
#endif
}

// Accesses that the emulation makes in a kernel's stead.
inline void reads([[maybe_unused]] const void* at, [[maybe_unused]] size_t bytes) {
#ifdef EMULATION_TSAN
  __tsan_read_range(const_cast<void*>(at), bytes);
#endif
}
inline void writes([[maybe_unused]] void* at, [[maybe_unused]] size_t bytes) {
#ifdef EMULATION_TSAN
  __tsan_write_range(at, bytes);
#endif
}

// While one lives, what the C library does to memory for the emulation counts as nobody's access.
class Unseen {
 public:
#ifdef EMULATION_TSAN
  Unseen() { __tsan_ignore_thread_begin(); }
  ~Unseen() { __tsan_ignore_thread_end(); }
#else
  Unseen() {}
  ~Unseen() {}
#endif
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;
};

inline void forbid([[maybe_unused]] void* at, [[maybe_unused]] size_t bytes) {
#ifdef EMULATION_ASAN
  __asan_poison_memory_region(at, bytes);
#endif
}
inline void permit([[maybe_unused]] void* at, [[maybe_unused]] size_t bytes) {
#ifdef EMULATION_ASAN
  __asan_unpoison_memory_region(at, bytes);
#endif
}

}  // namespace llama_tp::emulation
