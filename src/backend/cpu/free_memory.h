// What the system can still give.
#pragma once

#include <cstdint>
#include <filesystem>

namespace llama_tp {

// Bytes that this process and others can take before the system must end one of them: memory that is free or only caches
// files, and swap, and no more than the limits of its control groups (cgroup v1 and v2) leave. The most there is where the
// system does not say. root: below which /proc and /sys are looked for.
int64_t free_host_memory(const std::filesystem::path& root = "/");

}  // namespace llama_tp
