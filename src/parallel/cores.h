// Which processors a rank may use, and how the ranks of one node divide them, as Linux says it.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace llama_tp {

// Numbers of logical processors (hardware threads).
using Processors = std::vector<int>;

// "0-3,8,10-11", as /sys writes them. Errors: anything else.
Processors parse_processor_list(std::string_view list);

// The processors that a process may run on; empty where there is no such process. Not from /proc, which gVisor leaves out.
Processors allowed_processors(int process);

// One logical processor of each physical core in the list, cores of one package next to each other.
Processors one_per_core(const Processors& processors);

// This rank's contiguous share of the cores; all of them when there are fewer cores than ranks.
Processors share_of(const Processors& cores, int local_rank, int local_size);

// Lets every thread of this process run on these processors, and those that it will start. False: the system refused.
bool bind_process(const Processors& processors);

// How many processors' time this process's control groups may use (cpu.max or cpu.cfs_quota_us), rounded up; a very large
// number without a limit. root: below which /proc and /sys are looked for.
int processor_quota(const std::filesystem::path& root = "/");

}  // namespace llama_tp
