// mpirun as its ranks see it in /proc: what it was told, and where its output goes. A rank's own stdout is a pty and
// its own processors are one core, whatever the user's terminal and machine are.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llama_tp {

// A field of /proc/<process>/status ("PPid", "Name"); empty when there is none.
std::string process_status(int process, const std::string& field);

// A process's program and arguments, as it was started; none when /proc does not say.
std::vector<std::string> process_words(int process);

// mpirun, or its daemon on this node, among this process's ancestors; 0 when there is none.
int find_launcher();

// Whether the launcher's command line has one of these options: "--bind-to", "-bind-to" or "--bind-to=core" for "bind-to".
bool launcher_says(int launcher, std::span<const std::string_view> names);

// Whether the launcher's command line or environment says how ranks are bound. Open MPI 5 tells its ranks nothing of that,
// and its daemons on other nodes only what the environment said, PRTE_MCA_hwloc_default_binding_policy, as their options.
bool launcher_says_binding(int launcher);

// Where one process opens what another's descriptor is.
std::string descriptor_path(int process, int descriptor);

// Columns of the terminal that a process's descriptor 0, 1 or 2 is; 0 when that is no terminal, or not to be seen
// from here (a daemon on another node than mpirun's has none).
int terminal_columns(int process, int descriptor);

}  // namespace llama_tp
