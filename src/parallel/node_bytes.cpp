#include "parallel/node_bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "parallel/host_values.h"

namespace llama_tp {

namespace {

// Of a broadcast: what a rank that maps another's file lets pass by.
constexpr int64_t chunk_bytes = int64_t{16} << 20;

class FileHandle {
 public:
  explicit FileHandle(int number = -1) : number_(number) {}
  FileHandle(FileHandle&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~FileHandle() {
    if (number_ >= 0) close(number_);
  }
  int number() const { return number_; }
  bool is_open() const { return number_ >= 0; }

 private:
  int number_;
};

// What a rank says of its file. Process numbers begin anew on each node and in each container: the file is known by its
// key, which is part of its name.
struct Offer {
  int64_t process = 0;
  int32_t file = -1;
  int32_t leader = 0;  // the rank whose file this one reads
  uint64_t key = 0;
};

std::string name_of(const Offer& offer) { return text("llama_tp.", offer.key); }

FileHandle make_file(Offer& offer) {
  if (getrandom(&offer.key, sizeof offer.key, 0) != sizeof offer.key) return FileHandle();
  offer.process = getpid();
  FileHandle file(memfd_create(name_of(offer).c_str(), MFD_CLOEXEC));
  offer.file = file.number();
  return file;
}

FileHandle open_file(const Offer& offer) {
  const std::string path = text("/proc/", offer.process, "/fd/", offer.file);
  const std::string expected = "/memfd:" + name_of(offer);  // and " (deleted)"
  std::string target(expected.size(), '\0');
  if (readlink(path.c_str(), target.data(), target.size()) != std::ssize(target) || target != expected)
    return FileHandle();
  return FileHandle(open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

// The file of the first rank whose file this one can open, which is then own.leader: of one that leads itself, as all do
// that lead others. Where that is this rank, no file: it has its own.
FileHandle choose_leader(HostGroup& group, Offer& own) {
  const std::vector<Offer> offers = gather_values(group, own);
  FileHandle found;
  for (own.leader = 0; own.leader < group.rank(); own.leader++) {
    found = open_file(offers[static_cast<size_t>(own.leader)]);
    if (found.is_open()) break;
  }
  const std::vector<Offer> choices = gather_values(group, own);
  if (choices[static_cast<size_t>(own.leader)].leader == own.leader) return found;
  own.leader = group.rank();
  return FileHandle();
}

using Memory = std::shared_ptr<char[]>;

Memory map(const FileHandle& file, int64_t size, int protection) {
  const auto length = static_cast<size_t>(size);
  void* const begin = mmap(nullptr, length, protection, MAP_SHARED, file.number(), 0);
  if (begin == MAP_FAILED) return nullptr;
  return Memory(static_cast<char*>(begin), [length](char* memory) { munmap(memory, length); });
}

// Memory to write to, found now and not by a signal later; nullptr where the system has none.
Memory reserve(const FileHandle& file, int64_t size) {
  if (!file.is_open()) return nullptr;
  int error = EINTR;  // by a signal that asks the run to save and end
  while (error == EINTR) error = posix_fallocate(file.number(), 0, size);
  return error != 0 ? nullptr : map(file, size, PROT_READ | PROT_WRITE);
}

// Rank 0's bytes to all that have memory of their own; the others let them pass by.
void fill(HostGroup& group, std::span<const char> bytes, int64_t size, char* own) {
  if (group.rank() == 0) std::ranges::copy(bytes, own);
  const std::vector<char> is_filled = gather_values<char>(group, group.rank() != 0 && own != nullptr);
  if (std::ranges::find(is_filled, 1) == is_filled.end()) return;
  std::vector<char> passing(static_cast<size_t>(own == nullptr ? std::min(size, chunk_bytes) : 0));
  for (int64_t offset = 0; offset < size; offset += chunk_bytes) {
    const auto length = static_cast<size_t>(std::min(chunk_bytes, size - offset));
    group.broadcast(std::span(own != nullptr ? own + offset : passing.data(), length), 0);
  }
}

}  // namespace

NodeBytes share_on_nodes(HostGroup& group, std::span<const char> bytes) {
  int64_t size = std::ssize(bytes);
  group.broadcast(std::span(reinterpret_cast<char*>(&size), sizeof size), 0);
  if (size == 0) return {};
  Offer own;
  const FileHandle file = make_file(own), leaders_file = choose_leader(group, own);
  const bool leads = own.leader == group.rank();
  Memory memory = leads ? reserve(file, size) : nullptr;
  const std::vector<char> has_memory = gather_values<char>(group, memory != nullptr);
  if (!leads && has_memory[static_cast<size_t>(own.leader)] != 0) memory = map(leaders_file, size, PROT_READ);
  const bool maps_anothers = !leads && memory != nullptr;
  if (memory == nullptr) memory = std::make_unique_for_overwrite<char[]>(static_cast<size_t>(size));
  fill(group, bytes, size, maps_anothers ? nullptr : memory.get());
  group.barrier();  // what a leader has written is there before its node reads it
  const std::span<const char> shared(memory.get(), static_cast<size_t>(size));
  return {std::move(memory), shared};
}

}  // namespace llama_tp
