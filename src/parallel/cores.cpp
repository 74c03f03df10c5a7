#include "parallel/cores.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <tuple>

#include "base/error.h"
#include "base/system_files.h"

namespace llama_tp {

namespace {

constexpr int no_limit = std::numeric_limits<int>::max();

// Of any size, and empty at first: a cpu_set_t alone holds 1,024.
class ProcessorSet {
 public:
  explicit ProcessorSet(int room)
      : room_(room), set_(CPU_ALLOC(static_cast<size_t>(room)), [](cpu_set_t* allocated) { CPU_FREE(allocated); }) {
    CPU_ZERO_S(bytes(), get());
  }
  size_t bytes() const { return CPU_ALLOC_SIZE(static_cast<size_t>(room_)); }
  cpu_set_t* get() const { return set_.get(); }
  Processors members() const {
    Processors all;
    for (int processor = 0; processor < room_; processor++)
      if (CPU_ISSET_S(static_cast<size_t>(processor), bytes(), get())) all.push_back(processor);
    return all;
  }

 private:
  int room_;
  std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set_;
};

int parse_number(std::string_view& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  require(error == std::errc() && number >= 0, "not a list of processors: \"", text, "\"");
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

std::string first_line(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

// "max 100000" or "200000 100000": microseconds of processor time in a period.
int quota_of(const std::string& limit) {
  std::istringstream in(limit);
  std::string quota;
  double period = 0;
  if (!(in >> quota >> period) || quota == "max" || quota.starts_with('-') || period <= 0) return no_limit;
  return std::max(1, static_cast<int>(std::ceil(std::strtod(quota.c_str(), nullptr) / period)));
}

}  // namespace

Processors parse_processor_list(std::string_view list) {
  Processors processors;
  while (!list.empty()) {
    const int first = parse_number(list);
    int last = first;
    if (list.starts_with('-')) {
      list.remove_prefix(1);
      last = parse_number(list);
    }
    for (int processor = first; processor <= last; processor++) processors.push_back(processor);
    if (list.empty()) break;
    require(list.starts_with(',') && list.size() > 1, "not a list of processors: \"", list, "\"");
    list.remove_prefix(1);
  }
  return processors;
}

Processors allowed_processors(int process) {
  constexpr int most_processors = 1 << 16;
  for (int room = 1024; room <= most_processors; room *= 2) {
    const ProcessorSet set(room);
    if (sched_getaffinity(process, set.bytes(), set.get()) == 0) return set.members();
    if (errno != EINVAL) break;  // that is: this machine has more of them
  }
  return {};
}

Processors one_per_core(const Processors& processors) {
  const std::filesystem::path all = "/sys/devices/system/cpu";
  std::set<std::tuple<int, int>> cores;  // package, lowest allowed processor of the core
  for (const int processor : processors) {
    const std::filesystem::path topology = all / ("cpu" + std::to_string(processor)) / "topology";
    const Processors siblings = parse_processor_list(first_line(topology / "thread_siblings_list"));
    int lowest = processor;
    for (const int sibling : siblings)
      if (std::find(processors.begin(), processors.end(), sibling) != processors.end())
        lowest = std::min(lowest, sibling);
    const std::string package = first_line(topology / "physical_package_id");
    cores.emplace(package.empty() ? 0 : std::stoi(package), lowest);
  }
  Processors out;
  for (const auto& [package, processor] : cores) out.push_back(processor);
  return out;
}

Processors share_of(const Processors& cores, int local_rank, int local_size) {
  const size_t count = cores.size(), ranks = static_cast<size_t>(local_size), rank = static_cast<size_t>(local_rank);
  if (count < ranks) return cores;
  const auto at = [&](size_t boundary) {
    return cores.begin() + static_cast<std::ptrdiff_t>(count * boundary / ranks);
  };
  return Processors(at(rank), at(rank + 1));
}

bool bind_process(const Processors& processors) {
  if (processors.empty()) return false;
  const ProcessorSet set(*std::max_element(processors.begin(), processors.end()) + 1);
  for (const int processor : processors) CPU_SET_S(static_cast<size_t>(processor), set.bytes(), set.get());
  bool bound = true;
  std::error_code error;  // where there is no /proc
  for (std::filesystem::directory_iterator at("/proc/self/task", error), end; !error && at != end; at.increment(error))
    bound &= sched_setaffinity(std::stoi(at->path().filename()), set.bytes(), set.get()) == 0;
  return bound && !error;
}

int processor_quota(const std::filesystem::path& root) {
  int quota = no_limit;
  for (const auto& group : control_groups("", "sys/fs/cgroup", root))
    quota = std::min(quota, quota_of(first_line(group / "cpu.max")));
  for (const auto& group : control_groups("cpu", "sys/fs/cgroup/cpu", root))
    quota = std::min(quota,
                     quota_of(first_line(group / "cpu.cfs_quota_us") + " " + first_line(group / "cpu.cfs_period_us")));
  return quota;
}

}  // namespace llama_tp
