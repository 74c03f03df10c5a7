#include "emulation/fiber.h"

#include <cstdint>
#include <cstring>

// Saves the registers that a call must leave as they are and the stack's top in *leave, takes enter's. ucontext's
// swapcontext does the same with a system call, at fifty times the cost. What it leaves on a stack is frame_words long,
// and where it returns to lies at return_word; an entry then finds its stack aligned as after a call.
extern "C" void emulation_switch(void** leave, void* enter);
#if defined(__x86_64__)
namespace {
constexpr size_t frame_words = 8, return_word = 6;  // the last word only aligns
}
// System V ABI, AMD64.
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
#elif defined(__aarch64__)
namespace {
constexpr size_t frame_words = 20, return_word = 1;
}
// Procedure Call Standard for the Arm 64-bit Architecture; x30 is where to return to.
asm(R"(
  .text
  .globl emulation_switch
emulation_switch:
  stp x29, x30, [sp, #-160]!
  stp x19, x20, [sp, #16]
  stp x21, x22, [sp, #32]
  stp x23, x24, [sp, #48]
  stp x25, x26, [sp, #64]
  stp x27, x28, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #16]
  ldp x21, x22, [sp, #32]
  ldp x23, x24, [sp, #48]
  ldp x25, x26, [sp, #64]
  ldp x27, x28, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x29, x30, [sp], #160
  ret
)");
#else
#error "the emulation switches stacks by a processor's own instructions; this one needs its emulation_switch here"
#endif

namespace llama_tp::emulation {

void Fiber::prepare(char* stack, size_t bytes, void (*entry)()) {
  // As emulation_switch leaves a stack.
  void* frame[frame_words] = {};
  std::memcpy(&frame[return_word], &entry, sizeof entry);
  char* const end = stack + bytes / 16 * 16;
  top_ = end - sizeof frame;
  std::memcpy(top_, frame, sizeof frame);
}

void Fiber::switch_to(Fiber& other) { emulation_switch(&top_, other.top_); }

}  // namespace llama_tp::emulation
