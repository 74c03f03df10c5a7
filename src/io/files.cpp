#include "io/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace llama_tp {

namespace {

// The most that one call transfers on Linux, rounded down to whole pages.
constexpr int64_t largest_transfer = 0x7ffff000;
constexpr int64_t stream_block = 4 << 20;

[[noreturn]] void fail_with_errno(const std::string& path, const char* doing) {
  fail(path, ": cannot ", doing, ": ", std::strerror(errno));
}

[[noreturn]] void fail_full(const std::string& path, int64_t needed) {
  const std::optional<int64_t> free = free_bytes(path);
  fail(path, ": the disk is full: ", needed, " bytes are needed", free ? text(", ", *free, " are free") : "",
       "; free some or choose another folder");
}

[[noreturn]] void fail_to_open(const std::string& path, const char* doing) {
  if (errno != EMFILE) fail_with_errno(path, doing);
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  fail(path, ": cannot ", doing, ": this process has as many files open as it may, ", limit.rlim_cur,
       "; raise the limit of open files (ulimit -n)");
}

bool is_full_disk(int error) { return error == ENOSPC || error == EDQUOT; }
bool grows_too_much(int error) { return is_full_disk(error) || error == EFBIG; }

// Precondition: grows_too_much(errno).
[[noreturn]] void fail_to_grow(const std::string& path, int64_t needed) {
  if (is_full_disk(errno)) fail_full(path, needed);
  fail(path, ": may not grow by the ", needed,
       " bytes that are needed; raise the limit of a file's size (ulimit -f), or choose another folder");
}

// Links followed. Errors: the system does not say, as of what is in a folder that may not be searched.
std::filesystem::file_type kind_of(const std::string& path) {
  std::error_code error;
  const auto kind = std::filesystem::status(path, error).type();
  require(kind != std::filesystem::file_type::none, path, ": cannot be looked at: ", error.message(),
          error == std::errc::permission_denied ? "; let this user into the folders above it (chmod +x)" : "");
  return kind;
}

// What a repository of Git LFS has in the place of a large file until that is fetched.
// https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
bool is_lfs_pointer(const File& file) {
  constexpr std::string_view begin = "version https://git-lfs.github.com/spec/";
  constexpr int64_t longest = 1023;
  const int64_t size = file.size();
  if (size < std::ssize(begin) || size > longest) return false;
  char read[begin.size()];
  file.read(read, sizeof read, 0);
  return std::string_view(read, sizeof read) == begin;
}

}  // namespace

File File::open(const std::string& path) {
  // A pipe must not wait for its writer, only to be refused.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0 && errno == ENOENT) fail(path, ": no such file");
  if (descriptor < 0) fail_to_open(path, "open it");
  File file(path, descriptor);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail_with_errno(path, "ask what it is");
  require(!S_ISDIR(status.st_mode), path, ": is a folder; a file is needed here");
  require(S_ISREG(status.st_mode), path,
          ": is a pipe or a device, of which no place can be read again; write it into a file first");
  require(!is_lfs_pointer(file), path,
          ": is a pointer of Git LFS, not the file; fetch that: git lfs pull in its repository, or hf download");
  return file;
}

File File::create(const std::string& path, int64_t kept) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (kept == 0 ? O_TRUNC : 0), 0666);
  if (descriptor < 0 && errno == ENOENT) fail(path, ": cannot create it: its folder does not exist");
  if (descriptor < 0 && is_full_disk(errno)) fail_full(folder_of_file(path), 1);
  if (descriptor < 0) fail_to_open(path, "create it");
  File file(path, descriptor);
  if (kept > 0 && ::ftruncate(descriptor, kept) != 0) fail_with_errno(path, "cut it");
  return file;
}

File::File(File&& other) noexcept : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int64_t File::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail_with_errno(path_, "ask for its size");
  return status.st_size;
}

void File::read(void* to, int64_t bytes, int64_t offset) const {
  for (int64_t done = 0; done < bytes;) {
    const auto ask = static_cast<size_t>(std::min(bytes - done, largest_transfer));
    const ssize_t got = ::pread(descriptor_, static_cast<char*>(to) + done, ask, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with_errno(path_, "read it");
    require(got > 0, path_, ": ends at byte ", offset + done, " where ", bytes - done,
            " more are expected; the file is cut: copy it again");
    done += got;
  }
}

void File::write(const void* from, int64_t bytes, int64_t offset) const {
  for (int64_t done = 0; done < bytes;) {
    const auto give = static_cast<size_t>(std::min(bytes - done, largest_transfer));
    const ssize_t taken = ::pwrite(descriptor_, static_cast<const char*>(from) + done, give, offset + done);
    if (taken < 0 && errno == EINTR) continue;
    if (taken == 0) fail_full(path_, bytes - done);
    if (taken < 0 && grows_too_much(errno)) fail_to_grow(path_, bytes - done);
    if (taken < 0) fail_with_errno(path_, "write it");
    done += taken;
  }
}

void File::reserve(int64_t bytes) const {
  // Asked first: on some file systems fallocate fills the disk before it finds that the rest does not fit.
  const int64_t missing = bytes - size();
  if (missing > 0 && missing > free_bytes(path_).value_or(missing)) fail_full(path_, missing);
#ifdef __linux__
  if (bytes > 0 && ::fallocate(descriptor_, 0, 0, bytes) == 0) return;
  if (bytes > 0 && grows_too_much(errno)) fail_to_grow(path_, missing);
#endif
  if (::ftruncate(descriptor_, bytes) != 0) {
    if (grows_too_much(errno)) fail_to_grow(path_, missing);
    fail(path_, ": cannot be made ", bytes, " bytes long: ", std::strerror(errno), "; name a regular file");
  }
}

void File::sync() const {
  if (::fsync(descriptor_) == 0) return;
  if (is_full_disk(errno)) fail_full(path_, 1);
  fail_with_errno(path_, "bring it to the disk");
}

bool File::lock() const { return ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK; }

void allow_many_open_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string folder_of_file(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

std::string name_of_file(const std::string& path) { return std::filesystem::path(path).filename().string(); }

bool file_exists(const std::string& path) {
  const auto kind = kind_of(path);
  return kind != std::filesystem::file_type::not_found && kind != std::filesystem::file_type::directory;
}

bool regular_file_exists(const std::string& path) { return kind_of(path) == std::filesystem::file_type::regular; }
bool folder_exists(const std::string& path) { return kind_of(path) == std::filesystem::file_type::directory; }

bool may_write(const std::string& path) {
  if (::access(path.c_str(), W_OK) == 0) return true;
  if (errno != ENOENT) return false;
  // A link to nothing makes the file that it names.
  std::error_code no_link;
  const std::filesystem::path target = std::filesystem::read_symlink(path, no_link);
  return no_link ? may_make_files_in(folder_of_file(path)) : may_write(folder_of_file(path) / target);
}

bool may_replace(const std::string& path) { return may_make_files_in(folder_of_file(path)); }

bool may_make_files_in(const std::string& folder) { return ::access(folder.c_str(), W_OK | X_OK) == 0; }

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    names.push_back(at->path().filename().string());
  require(!error, folder, ": cannot list the folder: ", error.message());
  return names;
}

// Not by require, whose arguments are evaluated in any order: the reason might come before the call.
void rename_path(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) == 0) return;
  fail(from, ": cannot rename it to ", to, ": ", std::strerror(errno));
}

namespace {

// A pipe or a terminal has no size and no positions.
std::string read_stream(const std::string& path, int64_t limit) {
  std::ifstream stream(path, std::ios::binary);
  require(stream.good(), path, ": cannot open it: ", std::strerror(errno));
  const auto block = std::make_unique<char[]>(static_cast<size_t>(stream_block));
  std::string text;
  while (stream.read(block.get(), stream_block), stream.gcount() > 0) {
    text.append(block.get(), static_cast<size_t>(stream.gcount()));
    require(static_cast<int64_t>(text.size()) <= limit, path, ": is longer than the ", limit,
            " bytes that are read here");
  }
  return text;
}

}  // namespace

std::string put_aside(const std::string& path) {
  std::string to = path + ".earlier";
  for (int n = 2; kind_of(to) != std::filesystem::file_type::not_found; n++)
    to = path + ".earlier-" + std::to_string(n);
  rename_path(path, to);
  return to;
}

std::string read_text(const std::string& path, int64_t limit) {
  if (file_exists(path) && !regular_file_exists(path)) return read_stream(path, limit);
  const File file = File::open(path);
  const int64_t size = file.size();
  require(size <= limit, path, ": is ", size, " bytes long; at most ", limit, " are read here");
  std::string text(static_cast<size_t>(size), '\0');
  file.read(text.data(), size, 0);
  return text;
}

void write_text(const std::string& path, const std::string& text) {
  const File file = File::create(path);
  file.write(text.data(), static_cast<int64_t>(text.size()), 0);
  file.sync();
}

void replace_text(const std::string& path, const std::string& text) {
  const std::string partial = path + ".partial";
  write_text(partial, text);
  if (std::rename(partial.c_str(), path.c_str()) == 0) return sync_folder(folder_of_file(path));
  const int error = errno;
  std::remove(partial.c_str());
  fail(partial, ": cannot rename it to ", path, ": ", std::strerror(error));
}

std::optional<int64_t> free_bytes(const std::string& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) return std::nullopt;
  // A file system of no blocks, or with more free ones than it has, only fills in the form.
  const bool is_told = status.f_blocks > 0 && status.f_bavail <= status.f_blocks && status.f_frsize > 0 &&
                       status.f_blocks <= static_cast<uint64_t>(INT64_MAX) / status.f_frsize;
  if (!is_told) return std::nullopt;
  return static_cast<int64_t>(status.f_bavail * status.f_frsize);
}

void sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno(path, "open the folder");
  const bool synced = ::fsync(descriptor) == 0 || errno == EINVAL;  // EINVAL: a file system without it
  const int error = errno;
  ::close(descriptor);
  errno = error;
  if (!synced) fail_with_errno(path, "bring the folder to the disk");
}

}  // namespace llama_tp
