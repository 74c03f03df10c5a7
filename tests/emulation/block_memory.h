// The memory of a block of threads: a guard page, shared memory, a guard page, stacks. What lies beside shared memory
// may not be touched.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstring>

#include "base/error.h"
#include "emulation/sanitizers.h"

namespace llama_tp::emulation {

inline constexpr size_t page = 4096, stack_bytes = size_t{32} << 10;

class BlockMemory {
 public:
  BlockMemory(size_t shared_bytes, size_t threads)
      : shared_bytes_(shared_bytes),
        shared_pages_((shared_bytes + page - 1) / page * page),
        bytes_(shared_pages_ + 2 * page + threads * stack_bytes),
        base_(map(nullptr, 0)) {
    forbid(base_, page);
    forbid(shared() + shared_bytes_, shared_pages_ - shared_bytes_ + page);
  }
  ~BlockMemory() {
    permit(base_, bytes_);
    munmap(base_, bytes_);
  }
  BlockMemory(const BlockMemory&) = delete;
  BlockMemory& operator=(const BlockMemory&) = delete;

  // For the next block. Mapped anew under ThreadSanitizer, which forgets what it saw there: the blocks of a GPU do not
  // share stacks and shared memory.
  void refresh() {
#ifdef EMULATION_TSAN
    map(base_, MAP_FIXED);
#endif
    std::memset(shared(), 0xff, shared_bytes_);  // NaN in f32 and bf16
  }
  char* shared() const { return base_ + page; }
  char* stack(size_t thread) const { return shared() + shared_pages_ + page + thread * stack_bytes; }

 private:
  char* map(void* at, int flags) const {
    void* memory = mmap(at, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    require(memory != MAP_FAILED, "emulation: no memory for a block");
    return static_cast<char*>(memory);
  }
  size_t shared_bytes_, shared_pages_, bytes_;
  char* base_;
};

}  // namespace llama_tp::emulation
