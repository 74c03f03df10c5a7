// Files read and written whole: what is asked for happens entirely, or an Error names the file, the reason and the
// mend. Only pread and pwrite, never mmap: mapped pages would count as this process's memory. A path is a std::string,
// so that headers stay cheap to include.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llama_tp {

// An open file. Reads and writes take their position, so threads may share one.
class File {
 public:
  // Errors: missing, a folder, a pipe or a device, a pointer of Git LFS in the file's place, not readable.
  static File open(const std::string& path);
  // A file to write: a new one, or one that is there, cut to its first `kept` bytes. Errors: no such folder, not
  // writable, disk full.
  static File create(const std::string& path, int64_t kept = 0);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& path() const { return path_; }
  int64_t size() const;

  // Exactly `bytes` from `offset` on. Errors: the file ends before them.
  void read(void* to, int64_t bytes, int64_t offset) const;
  // Errors: a full disk, with the bytes needed and free.
  void write(const void* from, int64_t bytes, int64_t offset) const;
  // Makes the file `bytes` long and takes its room on the disk, where the file system can. Errors: less is free.
  void reserve(int64_t bytes) const;
  // Returns when the contents are on the disk.
  void sync() const;
  // Tries to become the only holder of the file's lock, which ends with the process; true where the file system has no
  // locks.
  bool lock() const;

 private:
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::string path_;
  int descriptor_ = -1;
};

// From now on this process may have as many files open as the system lets it (the hard limit; the usual one of 1,024 is
// less than the files of a large checkpoint). Where that fails the limit stays.
void allow_many_open_files();

// The two parts of a file's path; the folder of a name alone is ".".
std::string folder_of_file(const std::string& path);
std::string name_of_file(const std::string& path);

// Errors: the path cannot be looked at, since a folder above it may not be searched.
bool file_exists(const std::string& path);  // of whatever kind
bool regular_file_exists(const std::string& path);
bool folder_exists(const std::string& path);
// Whether permissions let this user write a file, a new one or one that is there; by replace_text; or any in a folder.
bool may_write(const std::string& path);
bool may_replace(const std::string& path);
bool may_make_files_in(const std::string& folder);
// Of all that is in a folder, in any order. Errors: it cannot be listed.
std::vector<std::string> names_in(const std::string& folder);
// A file or a folder; a file that has the name already is replaced. Errors: the system's, by its reason.
void rename_path(const std::string& from, const std::string& to);
// Renames a file to PATH.earlier, or PATH.earlier-2 and so on where there is one; returns the new path.
std::string put_aside(const std::string& path);

// The whole file, or all that comes through a pipe. Errors: as File::open; longer than `limit` bytes.
std::string read_text(const std::string& path, int64_t limit = INT64_MAX);
// A new or replaced file, synced.
void write_text(const std::string& path, const std::string& text);
// The same, but what was there stays whole until the new text is on the disk.
void replace_text(const std::string& path, const std::string& text);

// Bytes that this user may still write on the disk of an existing file or folder; none where its file system does not
// tell, as some of a network or of /proc do not.
std::optional<int64_t> free_bytes(const std::string& path);

// Returns when the entries of the folder are on the disk.
void sync_folder(const std::string& path);

}  // namespace llama_tp
