// What the host has reserved: all of global memory that kernels may touch.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llama_tp::ptx {

void add_memory(const void* from, size_t bytes);
void remove_memory(const void* from);
// Errors: a part of it was not reserved; misaligned.
char* global_memory(uint64_t address, size_t bytes, size_t alignment);

}  // namespace llama_tp::ptx
