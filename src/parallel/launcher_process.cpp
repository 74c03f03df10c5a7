#include "parallel/launcher_process.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <fstream>

#include "base/system_files.h"

namespace llama_tp {

namespace {

// Open MPI 4, Open MPI 5 (PRRTE), and the name that both share with MPICH.
constexpr std::array<std::string_view, 6> launchers{"mpirun", "orterun", "orted", "prterun", "prted", "mpiexec"};
constexpr int default_columns = 80;  // of a terminal that does not say

// What says how ranks are bound, on a command line: options, and parameters of Open MPI 5, which are options of its daemons.
constexpr std::array<std::string_view, 5> words_of_binding{"bind-to", "cpu-set", "cpu-list",
                                                           "hwloc_default_binding_policy", "hwloc_default_cpu_list"};
// Those parameters as variables, which Open MPI 5 keeps from its ranks.
constexpr std::array<std::string_view, 2> variables_of_binding{"PRTE_MCA_hwloc_default_binding_policy=",
                                                               "PRTE_MCA_hwloc_default_cpu_list="};

// What ends with a zero byte each, as /proc has it.
std::vector<std::string> strings_in(const std::string& file) {
  std::ifstream in(file);
  std::vector<std::string> strings;
  for (std::string string; std::getline(in, string, '\0');) strings.push_back(string);
  return strings;
}

struct Option {
  std::string name, value;
};

// The launcher's own words, not those of the program that it starts, which is this one. Each may be an option with what
// follows, "--map-by core", "-map-by=core", or what follows.
std::vector<Option> own_options(int launcher) {
  std::vector<std::string> words = process_words(launcher);
  const std::vector<std::string> program = process_words(getpid());
  if (!program.empty()) words.erase(std::ranges::find(words, program.front()), words.end());
  std::vector<Option> options;
  for (size_t at = 0; at < words.size(); at++) {
    const std::string word = words[at].substr(std::min(words[at].find_first_not_of('-'), words[at].size()));
    const size_t sign = word.find('=');
    const std::string next = at + 1 < words.size() ? words[at + 1] : "";
    options.push_back({word.substr(0, sign), sign == std::string::npos ? next : word.substr(sign + 1)});
  }
  return options;
}

bool is_among(std::span<const std::string_view> names, const Option& option) {
  return std::ranges::find(names, option.name) != names.end();
}

// Whether it says which processors each rank gets, or how many: "--map-by slot:PE=8", "--map-by pe-list=0,2:ordered".
bool maps_processors(const Option& option) {
  std::string value = option.value;
  std::ranges::transform(value, value.begin(), [](unsigned char letter) { return std::tolower(letter); });
  return option.name == "map-by" &&
         (value.find("pe=") != std::string::npos || value.find("pe-list=") != std::string::npos);
}

}  // namespace

std::string process_status(int process, const std::string& field) {
  return text_behind(field + ":", "/proc/" + std::to_string(process) + "/status");
}

std::vector<std::string> process_words(int process) {
  return strings_in("/proc/" + std::to_string(process) + "/cmdline");
}

int find_launcher() {
  for (int process = getppid(); process > 0;) {
    const std::string name = process_status(process, "Name");
    // Without what tells several MPIs' apart: mpirun.openmpi, mpirun.mpich, mpiexec.hydra.
    if (std::ranges::find(launchers, name.substr(0, name.find('.'))) != launchers.end()) return process;
    process = std::atoi(process_status(process, "PPid").c_str());
  }
  return 0;
}

bool launcher_says(int launcher, std::span<const std::string_view> names) {
  return std::ranges::any_of(own_options(launcher), [&](const Option& option) { return is_among(names, option); });
}

bool launcher_says_binding(int launcher) {
  const auto is_told = [](const Option& option) {
    return is_among(words_of_binding, option) || maps_processors(option);
  };
  const auto is_set = [](const std::string& variable) {
    return std::ranges::any_of(variables_of_binding, [&](std::string_view name) { return variable.starts_with(name); });
  };
  return std::ranges::any_of(own_options(launcher), is_told) ||
         std::ranges::any_of(strings_in("/proc/" + std::to_string(launcher) + "/environ"), is_set);
}

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
