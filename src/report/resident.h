// Memory that the system has given to this process, by where it comes from.
#pragma once

#include <cstdint>

namespace llama_tp {

// proc(5), /proc/PID/status; in bytes. gVisor tells the total alone, which then counts as anonymous, and as the peak.
struct ResidentMemory {
  int64_t total = 0;      // VmRSS, the sum of:
  int64_t anonymous = 0;  // RssAnon: arenas, heap, stacks
  int64_t files = 0;      // RssFile: code and constants of the program and its libraries
  int64_t shared = 0;     // RssShmem: what ranks of a node share
  int64_t peak = 0;       // VmHWM: the total at its highest
};

ResidentMemory resident_memory();

}  // namespace llama_tp
