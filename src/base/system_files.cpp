#include "base/system_files.h"

#include <fstream>

#include "base/error.h"

namespace llama_tp {

namespace {

// Relative to the mount: from the line "4:memory,hugetlb:/path", or "0::/path" for no controller.
std::filesystem::path group_with(std::string_view controller, const std::filesystem::path& root) {
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

}  // namespace

std::string text_behind(std::string_view word, const std::filesystem::path& file) {
  constexpr const char* blanks = " \t";
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    const size_t end = line.find_first_of(blanks), begin = line.find_first_not_of(blanks, end);
    if (line.substr(0, end) == word) return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

std::vector<std::filesystem::path> control_groups(std::string_view controller, const std::filesystem::path& mount,
                                                  const std::filesystem::path& root) {
  std::vector<std::filesystem::path> groups;
  for (std::filesystem::path at = group_with(controller, root); !at.empty(); at = at.parent_path())
    groups.push_back(root / mount / at);
  groups.push_back(root / mount);
  return groups;
}

}  // namespace llama_tp
