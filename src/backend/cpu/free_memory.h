// What the system can still give, and what this process has of it.
#pragma once

#include <cstdint>
#include <filesystem>

namespace llama_tp {

// Bytes that this process and others can take before the system must end one of them: memory that is free or only caches
// files, and swap, and no more than the limits of its control groups (cgroup v1 and v2) leave. The most there is where the
// system does not say. root: below which /proc and /sys are looked for.
int64_t free_host_memory(const std::filesystem::path& root = "/");

// Bytes that this process has taken of it: pages of no file, in memory or swapped out, and of those that several share, as
// ranks of a node share their data, its part (proc(5), smaps_rollup, since Linux 5.4). 0 where the system does not say.
int64_t taken_host_memory(const std::filesystem::path& root = "/");

}  // namespace llama_tp
