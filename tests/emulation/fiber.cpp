#include "emulation/fiber.h"

#include <cstdint>
#include <cstring>

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

void Fiber::prepare(char* stack, size_t bytes, void (*entry)()) {
  // As emulation_switch leaves a stack: six registers and where to return to, here the entry, which then finds its
  // stack aligned as after a call.
  constexpr size_t registers = 6;
  void* frame[registers + 2] = {};
  std::memcpy(&frame[registers], &entry, sizeof entry);
  char* const end = stack + bytes / 16 * 16;
  top_ = end - sizeof frame;
  std::memcpy(top_, frame, sizeof frame);
}

void Fiber::switch_to(Fiber& other) { emulation_switch(&top_, other.top_); }

}  // namespace llama_tp::emulation
