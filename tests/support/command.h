// A command line as a user types it: run by a shell with a time limit, judged by what it printed and when it ended.
#pragma once

#include <string>
#include <vector>

namespace llama_tp {

struct CommandResult {
  int status = 0;  // the shell's; 128 + the signal where one ended it
  std::string out, err;
  double seconds = 0;
  double seconds_after_error = 0;  // from the first line that begins with "llama_tp: " on stderr to the end
  bool timed_out = false;          // and was killed

  std::string said() const { return out + err; }
  // How often a piece is in what it said.
  int count(const std::string& piece) const;
  // The program's own error lines on stderr, without mpirun's.
  std::vector<std::string> errors() const;
};

enum class Output { piped, on_terminal };  // on_terminal: one of 100 columns takes stdout and stderr, both into `out`

// By bash, in the repository root, with an empty stdin and one OpenMP thread a rank (small models gain nothing by more,
// and threads that wait for each other are slow on a busy machine); the line may set OMP_NUM_THREADS itself. As root,
// Open MPI is told that this is meant.
CommandResult run_command(const std::string& line, double limit_seconds = 100, Output output = Output::piped);

// The beginning of a command line: mpirun for so many ranks, whose further options or program follow.
std::string mpirun(int ranks);

// The same: the program, under mpirun or, with 0 ranks, without.
std::string llama_tp_with(int ranks);

// Two ranks, each a command line of its own.
CommandResult lines_of_two(const std::string& first, const std::string& second);
// The program on two ranks, each with arguments of its own, as on hosts that have files of their own.
CommandResult on_two(const std::string& first, const std::string& second);

// A line of the shell, under one whose mounts are its own, where this user may have them.
std::string with_own_mounts(const std::string& line);

// A command of the shell that prints the processes that $job has started. cat goes on where a process has ended
// meanwhile; awk itself would leave.
inline const std::string ranks_of_job =
    "cat /proc/[0-9]*/stat 2>/dev/null | awk -v parent=$job '$4 == parent {print $1}'";

// mpirun for ranks on hosts that are this machine under other names, "hosta:2,hostb:1": the first two ranks, the third.
// "" where this user may not give it other names.
std::string mpirun_on_hosts(const std::string& hosts);

// The beginning of a command line whose program may do to files what their permissions say, though root may do all.
std::string within_permissions();

// What a command printed but for the lines that the mpirun of Open MPI 5 adds when its ranks end the job, of which they
// cannot keep it.
std::string without_notice(const std::string& output);

// How a command is started: on so many ranks, with options that place them.
struct MeshOfRanks {
  int ranks;  // 0: without mpirun
  const char* options;
};

// A word that the shell hands on as it is.
std::string quoted(const std::string& word);

}  // namespace llama_tp
