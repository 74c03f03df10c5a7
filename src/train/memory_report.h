// What ranks took of memory, as JSON: one layout for what a plan foresees and what a run measured.
//   [{"ranks": [0, 1], "planned_bytes": N, "peak_bytes": N, "categories": {name: bytes at the peak},
//     "phases": {name: the most bytes in it}}, …]
// Categories and phases that hold nothing are left out; ranks that took the same share one entry.
#pragma once

#include <string>
#include <vector>

#include "model/runtime.h"
#include "report/resident.h"

namespace llama_tp {

// One rank's entry, without its number. planned: what its arenas were to reserve.
std::string memory_entry(const MemoryPlan& planned, const Ledger& ledger);
// Of all ranks: entries[rank] is that rank's.
std::string memory_report(const std::vector<std::string>& entries);

// What the system counts for one rank, which no plan foresees:
//   {"resident_bytes": N, "remainder_bytes": N, "remainder": {"heap": N, "files": N, "shared": N}}
// The remainder is what lies outside of the arenas: heap (the data, oneDNN's primitives, MPI's buffers, stacks), files
// (code of the program and its libraries) and shared (the windows of the ranks of a node). arenas: bytes that were
// used.
std::string resident_entry(const ResidentMemory& resident, int64_t arenas);

// A run's memory.json, of the entries of all ranks: {"ranks": […], "resident": […]}.
std::string memory_text(const std::vector<std::string>& entries, const std::vector<std::string>& residents);

}  // namespace llama_tp
