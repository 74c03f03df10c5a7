// The table of instructions, which three files fill.
#pragma once

#include <string>

#include "ptx/machine.h"

namespace llama_tp::ptx {

using Table = std::map<std::string, Known, std::less<>>;

void add_arithmetic(Table& table);
void add_memory_accesses(Table& table);
void add_copies(Table& table);
void add_matrices(Table& table);

}  // namespace llama_tp::ptx
