#include "backend/cpu/free_memory.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "base/system_files.h"

namespace llama_tp {

namespace {

constexpr int64_t unlimited = std::numeric_limits<int64_t>::max();

// Of "MemAvailable:   23420372 kB".
std::optional<int64_t> number_behind(const char* word, const std::filesystem::path& file) {
  int64_t number = 0;
  if (std::istringstream(text_behind(word, file)) >> number) return number;
  return {};
}

std::optional<int64_t> number_in(const std::filesystem::path& file) {
  int64_t number = 0;
  if (std::ifstream(file) >> number) return number;
  return {};  // no such file, or "max"
}

// A version of control groups, and what it calls the numbers of a group and of all below it.
struct ControlGroups {
  const char *controller, *mount, *limit, *used, *inactive;
};
constexpr std::array<ControlGroups, 2> versions{
    {{"memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"},
     {"", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"}}};

// What one group's limit leaves. Pages of files that nobody has used for a while are given back when memory is short.
int64_t left_in(const std::filesystem::path& group, const ControlGroups& names) {
  const auto limit = number_in(group / names.limit), used = number_in(group / names.used);
  if (!limit || !used) return unlimited;
  const int64_t inactive = number_behind(names.inactive, group / "memory.stat").value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - inactive));
}

}  // namespace

int64_t free_host_memory(const std::filesystem::path& root) {
  const std::filesystem::path memory = root / "proc/meminfo";
  const auto available = number_behind("MemAvailable:", memory);  // KiB, as the swap
  if (!available) return unlimited;
  int64_t free = 1024 * (*available + number_behind("SwapFree:", memory).value_or(0));
  for (const ControlGroups& version : versions)
    for (const auto& group : control_groups(version.controller, version.mount, root))
      free = std::min(free, left_in(group, version));
  return free;
}

int64_t taken_host_memory(const std::filesystem::path& root) {
  const std::filesystem::path self = root / "proc/self", status = self / "status";  // in KiB
  const auto own = number_behind("RssAnon:", status);
  if (!own) return 1024 * number_behind("VmRSS:", status).value_or(0);  // gVisor, which has no more than that
  return 1024 * (*own + number_behind("VmSwap:", status).value_or(0) +
                 number_behind("Pss_Shmem:", self / "smaps_rollup").value_or(0));
}

}  // namespace llama_tp
