#include "support/command.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <regex>
#include <sstream>

#include "base/error.h"

namespace llama_tp {

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* error_mark = "llama_tp: ";

double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

struct Ends {
  int read = -1, write = -1;
};

Ends make_pipe() {
  std::array<int, 2> ends{};
  require(pipe2(ends.data(), O_CLOEXEC) == 0, "no pipe");
  return {ends[0], ends[1]};
}

Ends make_terminal() {
  Ends ends;
  winsize size{.ws_row = 40, .ws_col = 100, .ws_xpixel = 0, .ws_ypixel = 0};
  require(openpty(&ends.read, &ends.write, nullptr, nullptr, &size) == 0, "no terminal");
  fcntl(ends.read, F_SETFD, FD_CLOEXEC);
  return ends;
}

[[noreturn]] void become(const std::string& line, int out, int err) {
  setpgid(0, 0);
  dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  setenv("OMP_NUM_THREADS", "1", 0);
  if (getuid() == 0) {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  execlp("bash", "bash", "-c", line.c_str(), nullptr);
  std::_Exit(127);
}

// One of a command's streams. Its end is -1 once the command has closed it.
struct Stream {
  int end;
  std::string* text;
};

// False at its end. (A terminal whose last writer has gone gives an error.)
bool take(const Stream& stream) {
  std::array<char, 65536> bytes{};
  const ssize_t got = read(stream.end, bytes.data(), bytes.size());
  if (got > 0) stream.text->append(bytes.data(), static_cast<size_t>(got));
  return got > 0;
}

}  // namespace

std::vector<std::string> CommandResult::errors() const {
  std::vector<std::string> found;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(error_mark)) found.push_back(line);
  return found;
}

int CommandResult::count(const std::string& piece) const {
  const std::string all = said();
  int found = 0;
  for (size_t at = all.find(piece); at != std::string::npos; at = all.find(piece, at + 1)) found++;
  return found;
}

CommandResult run_command(const std::string& line, double limit_seconds, Output output) {
  CommandResult result;
  const bool piped = output == Output::piped;
  const Ends out = piped ? make_pipe() : make_terminal(), err = piped ? make_pipe() : Ends{-1, dup(out.write)};
  const auto begin = Clock::now();
  const pid_t child = fork();
  if (child == 0) become(line, out.write, err.write);
  setpgid(child, child);
  close(out.write);
  close(err.write);

  Clock::time_point failed{};
  std::array<Stream, 2> streams{{{out.read, &result.out}, {err.read, &result.err}}};
  while (streams[0].end >= 0 || streams[1].end >= 0) {
    std::array<pollfd, 2> ready{{{streams[0].end, POLLIN, 0}, {streams[1].end, POLLIN, 0}}};
    const double left = limit_seconds - seconds_between(begin, Clock::now());
    if (left <= 0 && !result.timed_out) {
      result.timed_out = true;
      kill(-child, SIGKILL);
    }
    // After the kill a process that left the group may keep a stream open: one more second for it.
    if (left < -1) break;
    poll(ready.data(), ready.size(), std::max(1, static_cast<int>(1000 * (left > 0 ? left : 1))));
    for (size_t i = 0; i < streams.size(); i++) {
      if (ready[i].revents == 0 || take(streams[i])) continue;
      close(streams[i].end);
      streams[i].end = -1;
    }
    if (failed == Clock::time_point{} && result.err.find(error_mark) != std::string::npos) failed = Clock::now();
  }
  for (const Stream& stream : streams)
    if (stream.end >= 0) close(stream.end);
  int status = 0;
  waitpid(child, &status, 0);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.seconds = seconds_between(begin, Clock::now());
  if (failed != Clock::time_point{}) result.seconds_after_error = seconds_between(failed, Clock::now());
  return result;
}

std::string mpirun(int ranks) { return text("mpirun --oversubscribe -np ", ranks, " "); }

std::string llama_tp_with(int ranks) {
  const char* given = std::getenv("LLAMA_TP_BINARY");
  const std::string binary =
      quoted(std::filesystem::absolute(given == nullptr ? "./llama_tp" : given).lexically_normal());
  return ranks == 0 ? binary : mpirun(ranks) + binary;
}

CommandResult lines_of_two(const std::string& first, const std::string& second) {
  // mpirun of Open MPI 5.0.7 crashes on two programs.
  return run_command(mpirun(2) + "bash -c " +
                     quoted("case $OMPI_COMM_WORLD_RANK in 0) exec " + first + ";; 1) exec " + second + ";; esac"));
}

CommandResult on_two(const std::string& first, const std::string& second) {
  return lines_of_two(llama_tp_with(0) + " " + first, llama_tp_with(0) + " " + second);
}

std::string with_own_mounts(const std::string& line) {
  return text("unshare -m ", getuid() == 0 ? "" : "-r ", "bash -c ", quoted(line));
}

std::string mpirun_on_hosts(const std::string& hosts) {
  const std::string agent = quoted(std::filesystem::absolute("tests/support/other_host"));
  if (run_command(agent + " hosta true").status != 0) return "";
  return "env OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=" + agent +                            // Open MPI 4
         " PRTE_MCA_plm=ssh PRTE_MCA_plm_ssh_agent=" + agent + " mpirun -H " + hosts + " ";  // Open MPI 5
}

std::string without_notice(const std::string& output) {
  const std::string line = "-{74}\n";
  const std::regex notice(line + R"(prterun has exited due to process rank \d+ with PID \d+ on node \S+ calling
"abort"\. This may have caused other processes in the application to be
terminated by signals sent by prterun \(as reported here\)\.
)" + line);
  return std::regex_replace(output, notice, "", std::regex_constants::format_first_only);
}

std::string within_permissions() {
  const std::string without = "-dac_override,-dac_read_search";
  return getuid() == 0 ? "setpriv --inh-caps=" + without + " --bounding-set=" + without + " " : "";
}

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

}  // namespace llama_tp
