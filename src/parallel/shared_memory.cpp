#include "parallel/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/parts.h"

namespace llama_tp {

namespace {

using Name = std::array<char, 64>;

// of_maker: of the rank that makes the object, which the others then look for.
const char* mend_of(int error, bool of_maker) {
  switch (error) {
    case ENOSPC:
    case ENOMEM:
      return "make /dev/shm larger (docker run --shm-size=1g), remove the /dev/shm/llama_tp.* of programs that have "
             "ended, or start fewer ranks a node";
    case EFBIG:
      return "raise the limit of a file's size (ulimit -f), or start fewer ranks a node";
    case ENOENT:
      return of_maker ? "there is no /dev/shm here; mount it: mount -t tmpfs -o size=1g tmpfs /dev/shm"
                      : "start the ranks of one node in one container, or with the same /dev/shm";
    case EEXIST:
      return "remove the /dev/shm/llama_tp.* of programs that have ended";
    default:
      return "see that each rank may make files there";
  }
}

// All ranks learn the first error that any of them met, so that all of them throw or none does.
void check_on_all(MpiGroup& group, int error, int64_t bytes, const char* what) {
  std::vector<int> errors(static_cast<size_t>(group.size()));
  group.all_gather(&error, errors.data(), sizeof error);
  for (size_t rank = 0; rank < errors.size(); rank++) {
    const int code = errors[rank];
    if (code == 0) continue;
    fail("/dev/shm: ", what, " ", bytes, " bytes that ", group.size(), " ranks share failed: ", std::strerror(code),
         "; ", mend_of(code, rank == 0));
  }
}

// Makes an object of a new name. Another process with this one's number, now or in another container, may have left
// names behind: so many are passed over. Negative where none is made, with errno and no name.
int make_object(Name& name) {
  constexpr int most_names = 1000;
  static int made = 0;
  for (int tries = 0; tries < most_names; tries++) {
    std::snprintf(name.data(), name.size(), "/llama_tp.%d.%d", static_cast<int>(getpid()), made++);
    const int file = shm_open(name.data(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file >= 0) return file;
    if (errno != EEXIST) break;
  }
  name.fill('\0');
  return -1;
}

// The object until all have opened it, also where this rank leaves because another has failed.
struct Object {
  Object() = default;
  ~Object() {
    unlink();
    if (file >= 0) close(file);
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  void unlink() {
    if (owns) shm_unlink(name.data());
    owns = false;
  }

  Name name{};
  int file = -1;
  bool owns = false;  // the name
};

}  // namespace

SharedMemory::SharedMemory(MpiGroup& group, int64_t bytes_per_rank) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  bytes_per_rank_ = round_up(bytes_per_rank, page);
  bytes_ = bytes_per_rank_ * group.size();

  Object object;
  int error = 0;
  if (group.rank() == 0) {
    object.file = make_object(object.name);
    object.owns = object.file >= 0;
    if (!object.owns || ftruncate(object.file, bytes_) != 0) error = errno;
  }
  group.broadcast(object.name.data(), static_cast<int64_t>(object.name.size()), 0);
  if (group.rank() != 0) {
    object.file = shm_open(object.name.data(), O_RDWR | O_CLOEXEC, 0600);
    if (object.file < 0) error = errno;
  }
  if (error == 0) error = posix_fallocate(object.file, group.rank() * bytes_per_rank_, bytes_per_rank_);
  group.barrier();
  object.unlink();

  if (error == 0) {
    void* base =
        mmap(nullptr, static_cast<size_t>(bytes_), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, object.file, 0);
    if (base == MAP_FAILED)
      error = errno;
    else
      base_ = static_cast<char*>(base);
  }
  try {
    check_on_all(group, error, bytes_, "reserving");
  } catch (...) {
    if (base_ != nullptr) munmap(base_, static_cast<size_t>(bytes_));
    throw;
  }
}

SharedMemory::~SharedMemory() { munmap(base_, static_cast<size_t>(bytes_)); }

}  // namespace llama_tp
