// A stack of its own and where it stands in it: what runs until it switches to another, and goes on where it was.
#pragma once

#include <cstddef>

namespace llama_tp::emulation {

class Fiber {
 public:
  // The one that runs already, the program's own thread.
  Fiber() = default;
  // To begin with entry(), which must not return, when it is first switched to.
  void prepare(char* stack, size_t bytes, void (*entry)());
  // Leaves this one, which runs, for another.
  void switch_to(Fiber& other);

 private:
  void* top_ = nullptr;  // of its stack, while it does not run; what it needs to go on lies there
};

}  // namespace llama_tp::emulation
