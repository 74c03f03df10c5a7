// What Linux says of processes and of their control groups (cgroup v1 and v2), in files of /proc and /sys.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

// What stands behind a word at the start of a line: "23420372 kB" of "MemAvailable:   23420372 kB". "" where no line has
// it.
std::string text_behind(std::string_view word, const std::filesystem::path& file);

// The folders of this process's group and of each above it, whose limits are its limits, too. controller: "" for version 2.
// mount: where its groups are. That itself where the system names no group; a container may see its own there in any case.
std::vector<std::filesystem::path> control_groups(std::string_view controller, const std::filesystem::path& mount,
                                                  const std::filesystem::path& root);

}  // namespace llama_tp
