#include "backend/cpu/free_memory.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include "base/error.h"

namespace llama_tp {

namespace {

constexpr int64_t unlimited = std::numeric_limits<int64_t>::max();

// The number behind a word at the start of a line: "MemAvailable:   23420372 kB".
std::optional<int64_t> number_behind(const std::filesystem::path& file, const std::string& wanted) {
  std::ifstream lines(file);
  for (std::string word; lines >> word; lines.ignore(std::numeric_limits<std::streamsize>::max(), '\n'))
    if (int64_t number = 0; word == wanted && lines >> number) return number;
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

// This process's group, relative to the mount: from the line "4:memory:/path", or "0::/path" for no controller.
std::optional<std::string> group_with(const std::string& controller, const std::filesystem::path& root) {
  std::ifstream lines(root / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':'), path = line.find(":/", first + 1);
    if (path == std::string::npos) continue;
    std::string controllers = line.substr(first, path + 1 - first);
    controllers.front() = controllers.back() = ',';
    if (controllers.find(text(",", controller, ",")) != std::string::npos) return line.substr(path + 2);
  }
  return {};
}

// What one group's limit leaves. Pages of files that nobody has used for a while are given back when memory is short.
int64_t left_in(const std::filesystem::path& group, const ControlGroups& names) {
  const auto limit = number_in(group / names.limit), used = number_in(group / names.used);
  if (!limit || !used) return unlimited;
  const int64_t inactive = number_behind(group / "memory.stat", names.inactive).value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - inactive));
}

// Each group above this process's has a limit, too. A container may see its own group at the mount.
int64_t left_by(const ControlGroups& names, const std::filesystem::path& root) {
  const auto group = group_with(names.controller, root);
  int64_t left = unlimited;
  if (!group) return left;
  for (std::filesystem::path at = *group;; at = at.parent_path()) {
    left = std::min(left, left_in(at.empty() ? root / names.mount : root / names.mount / at, names));
    if (at.empty()) return left;
  }
}

}  // namespace

int64_t free_host_memory(const std::filesystem::path& root) {
  const std::filesystem::path memory = root / "proc/meminfo";
  const auto available = number_behind(memory, "MemAvailable:");  // KiB, as the swap
  if (!available) return unlimited;
  int64_t free = 1024 * (*available + number_behind(memory, "SwapFree:").value_or(0));
  for (const ControlGroups& version : versions) free = std::min(free, left_by(version, root));
  return free;
}

int64_t taken_host_memory(const std::filesystem::path& root) {
  const std::filesystem::path self = root / "proc/self", status = self / "status";  // in KiB
  const auto own = number_behind(status, "RssAnon:");
  if (!own) return 1024 * number_behind(status, "VmRSS:").value_or(0);  // gVisor, which has no more than that
  return 1024 * (*own + number_behind(status, "VmSwap:").value_or(0) +
                 number_behind(self / "smaps_rollup", "Pss_Shmem:").value_or(0));
}

}  // namespace llama_tp
