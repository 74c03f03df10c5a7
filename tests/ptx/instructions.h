// The table of instructions, and the files that fill it.
#pragma once

#include <string>

#include "ptx/machine.h"

namespace llama_tp::ptx {

using Table = std::map<std::string, Known, std::less<>>;

void add_arithmetic(Table& table);
void add_flow(Table& table);
void add_memory_accesses(Table& table);
void add_copies(Table& table);
void add_matrices(Table& table);

// What changes only when something is done, or nothing that is seen here.
inline void nothing(Warp&, const Instruction&, uint32_t) {}

}  // namespace llama_tp::ptx
