// What ranks took of memory and sent, as JSON: one layout for what a plan foresees and what a run measured.
//   "ranks": [{"ranks": [0, 1], "planned_bytes": N, "peak_bytes": N, "categories": {name: bytes at the peak},
//              "phases": {name: the most bytes in it}}, …]
//   "communication": [{"ranks": [0, 1], "group": name, "group_size": N, "collective": name, "calls": N, "bytes": N,
//                      "phases": {name: {"calls": N, "bytes": N}}}, …]    of one step; bytes are payload
// Categories, phases and collectives with nothing in them are left out; ranks that are alike share one entry.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "model/runtime.h"
#include "report/resident.h"
#include "train/traffic.h"

namespace llama_tp {

// What some ranks have in common, as JSON without their numbers.
struct RankEntry {
  std::vector<int64_t> ranks;
  std::string json;
};

// {name: bytes}
nlohmann::ordered_json categories_json(const CategoryBytes& bytes);
// planned: what the rank's arenas were to reserve.
std::string memory_entry(const MemoryPlan& planned, const Ledger& ledger);
std::string traffic_entry(const std::vector<GroupTraffic>& traffic);
// The two lists, of the entries of all ranks.
std::string memory_report(const std::vector<RankEntry>& entries);
std::string traffic_report(const std::vector<RankEntry>& entries);

// What the system counts for one rank, which no plan foresees:
//   {"resident_bytes": N, "remainder_bytes": N, "remainder": {"heap": N, "files": N, "shared": N}}, or null where the
//   system does not say
// The remainder is what lies outside of the arenas: heap (oneDNN's primitives, MPI's buffers, stacks), files (code of the
// program and its libraries) and shared (the data, and the windows of the ranks of a node). arenas: bytes that were used,
// 0 where they are in a device's memory.
std::string resident_entry(const ResidentMemory& resident, int64_t arenas);

// What a device's driver counts as in use, beside the arenas: the rest is its context, the kernels, and what libraries
// take for themselves.
//   {"in_use_bytes": N, "remainder_bytes": N}
std::string device_entry(int64_t in_use, int64_t arenas);

// A run's memory.json, where each vector has every rank's entry in order; device is empty where arenas are in the host's
// memory:
//   {"ranks": […], "communication": […], "resident": […], "device": […]}.
std::string memory_text(const std::vector<std::string>& memory, const std::vector<std::string>& traffic,
                        const std::vector<std::string>& resident, const std::vector<std::string>& device);

}  // namespace llama_tp
