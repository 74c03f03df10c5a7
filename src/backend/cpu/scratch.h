// An operation's scratch memory cut into arrays, one after another. Without memory it only counts, so that the size
// asked for and the size used come from the same lines:
//   Scratch scratch(workspace);  float* sums = scratch.take<float>(rows);  …  scratch.used()
#pragma once

#include <cstdint>

#include "base/parts.h"

namespace llama_tp {

class Scratch {
 public:
  explicit Scratch(void* base) : base_(static_cast<char*>(base)) {}

  // Starts on a cache line, so that threads with neighbouring arrays do not disturb each other. Null when counting.
  template <class T>
  T* take(int64_t count) {
    constexpr int64_t line = 64;
    char* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(count * static_cast<int64_t>(sizeof(T)), line);
    return reinterpret_cast<T*>(at);
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

}  // namespace llama_tp
