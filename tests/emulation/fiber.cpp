#include "emulation/fiber.h"

#include <cstdint>
#include <cstring>

#ifdef EMULATION_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#error "the emulation switches stacks by x86-64 instructions; another processor needs its own emulation_switch here"
#endif

// Saves the registers that a call must leave as they are (System V ABI) and the stack's top in *leave, takes enter's.
// ucontext's swapcontext does the same with a system call, at fifty times the cost.
extern "C" void emulation_switch(void** leave, void* enter);
asm(R"(
  .text
  .globl emulation_switch
emulation_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

namespace llama_tp::emulation {

namespace {

// AddressSanitizer is told which stack is in use; of the program's own it learns where it lies at the first switch.
thread_local const void* main_stack = nullptr;
thread_local size_t main_bytes = 0;

void leave_for([[maybe_unused]] const char* stack, [[maybe_unused]] size_t bytes, [[maybe_unused]] void** keep) {
#ifdef EMULATION_ASAN
  if (stack == nullptr)
    __sanitizer_start_switch_fiber(keep, main_stack, main_bytes);
  else
    __sanitizer_start_switch_fiber(keep, stack, bytes);
#endif
}
void arrived([[maybe_unused]] void* kept, [[maybe_unused]] bool first) {
#ifdef EMULATION_ASAN
  const void* left = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(kept, &left, &bytes);
  if (first && main_stack == nullptr) main_stack = left, main_bytes = bytes;
#endif
}

}  // namespace

void Fiber::prepare(char* stack, size_t bytes, void (*entry)()) {
  stack_ = stack;
  bytes_ = bytes;
  // As emulation_switch leaves a stack: six registers and where to return to, here the entry, which then finds its stack
  // aligned as after a call.
  constexpr size_t registers = 6;
  void* frame[registers + 2] = {};
  std::memcpy(&frame[registers], &entry, sizeof entry);
  char* const end = stack + bytes / 16 * 16;
  top_ = end - sizeof frame;
  std::memcpy(top_, frame, sizeof frame);
}

void Fiber::switch_to(Fiber& other) {
  void* kept = nullptr;
  leave_for(other.stack_, other.bytes_, &kept);
  emulation_switch(&top_, other.top_);
  arrived(kept, false);
}

void Fiber::begun() { arrived(nullptr, true); }

}  // namespace llama_tp::emulation
