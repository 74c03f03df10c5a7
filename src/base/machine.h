// Can this machine run the instructions that the program was compiled for?
#pragma once

#include "base/error.h"

namespace llama_tp {

// Errors: the processor lacks an instruction set that the compiler was allowed to use (-march=native on another
// machine), with the mend.
void check_machine();

}  // namespace llama_tp
