// What the emulation tells of the lanes' accesses to a record of them (tests/accesses): which grid runs, which block has
// ended, and what it reads and writes in a kernel's stead. Nothing where none is kept (EMULATION_ACCESSES).
#pragma once

#include <cstddef>

namespace llama_tp::emulation {

struct Launch;

#ifdef EMULATION_ACCESSES
void begin_grid_of_accesses(const Launch& launch);
void end_block_of_accesses();
void end_grid_of_accesses();
// By the running thread, of memory of the block or the device; the code is where the instruction will return to.
void note_access(const void* at, size_t bytes, bool writes, const void* code);
#else
inline void begin_grid_of_accesses(const Launch&) {}
inline void end_block_of_accesses() {}
inline void end_grid_of_accesses() {}
inline void note_access(const void*, size_t, bool, const void*) {}
#endif

}  // namespace llama_tp::emulation
