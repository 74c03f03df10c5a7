#include "parallel/launcher_process.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>

namespace llama_tp {

namespace {

// Open MPI 4, Open MPI 5 (PRRTE), and the name that both share with MPICH.
constexpr std::array<std::string_view, 6> launchers{"mpirun", "orterun", "orted", "prterun", "prted", "mpiexec"};
constexpr int default_columns = 80;  // of a terminal that does not say

// What says how ranks are bound, on a command line: options, and parameters of Open MPI 5, which are options of its daemons.
constexpr std::array<std::string_view, 5> words_of_binding{"bind-to", "cpu-set", "cpu-list",
                                                           "hwloc_default_binding_policy", "hwloc_default_cpu_list"};
// The launcher's own words: not those of the program that it starts, which is this one.
std::vector<std::string> own_words(int launcher) {
  std::vector<std::string> words = process_words(launcher);
  const std::vector<std::string> program = process_words(getpid());
  if (!program.empty()) words.erase(std::ranges::find(words, program.front()), words.end());
  return words;
}

}  // namespace

std::string process_status(int process, std::string_view field) {
  std::ifstream in("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(field) || line.size() <= field.size() || line[field.size()] != ':') continue;
    const size_t value = line.find_first_not_of(" \t", field.size() + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

std::vector<std::string> process_words(int process) {
  std::ifstream in("/proc/" + std::to_string(process) + "/cmdline");
  std::vector<std::string> words;
  for (std::string word; std::getline(in, word, '\0');) words.push_back(word);
  return words;
}

int find_launcher() {
  for (int process = getppid(); process > 0;) {
    if (std::find(launchers.begin(), launchers.end(), process_status(process, "Name")) != launchers.end())
      return process;
    process = std::atoi(process_status(process, "PPid").c_str());
  }
  return 0;
}

bool launcher_says(int launcher, std::span<const std::string_view> options) {
  return std::ranges::any_of(own_words(launcher), [&options](std::string_view word) {
    word.remove_prefix(std::min(word.find_first_not_of('-'), word.size()));
    return std::ranges::find(options, word.substr(0, word.find('='))) != options.end();
  });
}

bool launcher_says_binding(int launcher) { return launcher_says(launcher, words_of_binding); }

std::string descriptor_path(int process, int descriptor) {
  return "/proc/" + std::to_string(process) + "/fd/" + std::to_string(descriptor);
}

int terminal_columns(int process, int descriptor) {
  const std::string path = descriptor_path(process, descriptor);
  struct stat kind {};
  if (stat(path.c_str(), &kind) != 0 || !S_ISCHR(kind.st_mode)) return 0;  // opening a pipe or a file has effects
  const int file = open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return 0;
  int columns = 0;
  if (isatty(file)) {
    winsize size{};
    columns = ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : default_columns;
  }
  close(file);
  return columns;
}

}  // namespace llama_tp
