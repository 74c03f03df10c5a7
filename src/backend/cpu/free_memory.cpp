#include "backend/cpu/free_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

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

// The group's path in the hierarchy of version 2, from the line "0::/path".
std::optional<std::string> control_group(const std::filesystem::path& root) {
  std::ifstream lines(root / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("0::/")) return line.substr(4);
  return {};
}

// What one group's limit leaves. Pages of files that nobody has used for a while are given back when memory is short.
int64_t left_in(const std::filesystem::path& group) {
  const auto limit = number_in(group / "memory.max"), used = number_in(group / "memory.current");
  if (!limit || !used) return unlimited;
  return std::max<int64_t>(0, *limit - *used + number_behind(group / "memory.stat", "inactive_file").value_or(0));
}

}  // namespace

int64_t free_host_memory(const std::filesystem::path& root) {
  const std::filesystem::path memory = root / "proc/meminfo";
  const auto available = number_behind(memory, "MemAvailable:");  // KiB, as the swap
  if (!available) return unlimited;
  int64_t free = 1024 * (*available + number_behind(memory, "SwapFree:").value_or(0));
  const auto group = control_group(root);
  if (!group) return free;
  const std::filesystem::path top = root / "sys/fs/cgroup";
  for (std::filesystem::path at = *group;; at = at.parent_path()) {  // each group above has a limit, too
    free = std::min(free, left_in(at.empty() ? top : top / at));
    if (at.empty()) return free;
  }
}

}  // namespace llama_tp
