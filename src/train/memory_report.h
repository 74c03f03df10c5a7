// What a training run took of memory, at its end.
#pragma once

#include <string>
#include <vector>

#include "parallel/mesh.h"
#include "train/memory_json.h"

namespace llama_tp {

// Writes memory.json into the output folder: beside what was planned, what the ledger saw (the same numbers, or something
// is wrong), what a step sends, and what the system counts, and the device's driver. Collective; returns what rank 0
// says of its own memory.
std::vector<std::string> report_memory(const std::string& output_folder, const MemoryPlan& planned,
                                       const Runtime& runtime, const std::vector<GroupTraffic>& of_a_step,
                                       const Mesh& mesh);

}  // namespace llama_tp
