#include "parallel/shared_output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "parallel/launcher_process.h"

namespace llama_tp {

namespace {

// What sends the ranks' output elsewhere or adds to it.
constexpr std::array<std::string_view, 8> words_of_output{
    "output", "output-filename", "output-directory", "merge-stderr-to-stdout", "tag-output", "timestamp-output", "xml",
    "xterm"};

// "flags: 02", "tty-index: 3" in /proc/<process>/fdinfo/<descriptor>: a master's is the number of its pty.
bool is_master_of(const std::filesystem::path& description, unsigned pty) {
  std::ifstream in(description);
  std::string field, value;
  while (in >> field && std::getline(in, value))
    if (field == "tty-index:") return std::atoi(value.c_str()) == static_cast<int>(pty);
  return false;
}

bool is_read_end_of(const std::filesystem::path& descriptor, const struct stat& pipe) {
  struct stat access {};
  if (lstat(descriptor.c_str(), &access) != 0 || (access.st_mode & S_IRUSR) == 0) return false;
  struct stat kind {};
  return stat(descriptor.c_str(), &kind) == 0 && kind.st_dev == pipe.st_dev && kind.st_ino == pipe.st_ino;
}

// Whether a process has the other end of a pipe or a pty. mpirun has that of its ranks' stdout and stderr, not of what they
// are redirected to within it, nor of its own.
bool reads_from(int process, const struct stat& output) {
  constexpr unsigned pty_slave = 136;  // Linux, Documentation/admin-guide/devices.txt
  const std::filesystem::path folder = "/proc/" + std::to_string(process);
  const bool is_pipe = S_ISFIFO(output.st_mode), is_pty = S_ISCHR(output.st_mode) && major(output.st_rdev) == pty_slave;
  if (!is_pipe && !is_pty) return false;
  std::error_code hidden;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "fd", hidden)) {
    const std::filesystem::path description = folder / "fdinfo" / entry.path().filename();
    if (is_pipe ? is_read_end_of(entry.path(), output) : is_master_of(description, minor(output.st_rdev))) return true;
  }
  return false;
}

// The same opened file: both processes write where the other has ended.
int share_file(int process, int descriptor) {
  const int held = static_cast<int>(syscall(SYS_pidfd_open, process, 0));
  const int opened = static_cast<int>(syscall(SYS_pidfd_getfd, held, descriptor, 0));
  close(held);
  return opened;
}

// A pipe or a terminal, opened another time: waiting in it, the other process and this one do not disturb each other. Of a
// named pipe that nobody reads the opening would wait for a reader.
int open_another_time(const std::string& path) {
  const int opened = open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (opened >= 0) fcntl(opened, F_SETFL, fcntl(opened, F_GETFL) & ~O_NONBLOCK);
  return opened;
}

// What another process writes to. Negative: it does not write there, or that is not allowed. Where a user has closed the
// descriptor, it may be anything by now, such as a pipe of that process to itself.
int open_output_of(int process, int descriptor) {
  const std::string path = descriptor_path(process, descriptor);
  struct stat access {};
  struct stat kind {};
  if (lstat(path.c_str(), &access) != 0 || (access.st_mode & S_IWUSR) == 0) return -1;
  if (stat(path.c_str(), &kind) != 0 || reads_from(process, kind)) return -1;
  return S_ISREG(kind.st_mode) ? share_file(process, descriptor) : open_another_time(path);
}

// mpirun's descriptor where a rank's own leads to, 0 for neither. Open MPI 5 gives its ranks a pty for stdout and a pipe for
// stderr; a shell may have made either the other.
int stream_of(int launcher, int descriptor) {
  struct stat own {};
  if (fstat(descriptor, &own) != 0 || !reads_from(launcher, own)) return 0;
  if (S_ISCHR(own.st_mode)) return STDOUT_FILENO;
  return descriptor == STDERR_FILENO ? STDERR_FILENO : 0;  // no pty was to be had, or stdout is what stderr was
}

// Returns whether it could.
bool share(int launcher, int descriptor) {
  const int stream = stream_of(launcher, descriptor);
  const int opened = stream == 0 ? -1 : open_output_of(launcher, stream);
  if (opened < 0) return false;
  fcntl(descriptor, F_DUPFD_CLOEXEC, 0);  // stays open: by the ends of both mpirun knows a process that reads no more
  dup2(opened, descriptor);
  close(opened);
  return true;
}

}  // namespace

void share_output_of(int launcher) {
  if (process_status(launcher, "Name") != "prterun" || launcher_says(launcher, words_of_output)) return;
  const bool output = share(launcher, STDOUT_FILENO), errors = share(launcher, STDERR_FILENO);
  // mpirun's ranks are in the background of its terminal, which would stop them as they write (stty tostop).
  if (output || errors) std::signal(SIGTTOU, SIG_IGN);
}

}  // namespace llama_tp
