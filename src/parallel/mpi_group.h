// MPI, as much of it as this program needs: a group of ranks that exchange bytes of host memory. Every wait is a
// polling loop that leaves (patience.h) when another rank of the node has failed or does not come. The only file beside
// launch.cpp that sees mpi.h is mpi_group.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "parallel/patience.h"

namespace llama_tp {

class MpiGroup {
 public:
  // Collective over the listed ranks of the world, which become ranks 0, 1, … of the group in this order.
  MpiGroup(const std::vector<int>& world_ranks, const WaitPolicy& policy);
  static MpiGroup world();
  // The ranks that share this rank's node, in the world's order.
  static MpiGroup node();
  // Waits for nobody, so that an error can unwind; then the group is not freed.
  ~MpiGroup();
  MpiGroup(MpiGroup&&) noexcept;

  int rank() const { return rank_; }
  int size() const { return size_; }
  void set_policy(const WaitPolicy& policy) { policy_ = policy; }

  // All of them are collective over the group. Errors: Stopped; Whereabouts::report's; what MPI says.
  void barrier();
  // Rank root's bytes on every rank; any number of them.
  void broadcast(void* data, int64_t bytes, int root);
  // whole[r · bytes …] = rank r's part, on every rank; bytes < 2^31.
  void all_gather(const void* part, void* whole, int64_t bytes);
  // received[r · bytes …] = rank r's sent[this rank · bytes …]; bytes < 2^31.
  void all_to_all(const void* sent, void* received, int64_t bytes);
  // whole[places[r] …] = rank r's piece of sizes[r] bytes, on root; any number of bytes.
  void gather(const void* piece, std::span<const int64_t> sizes, std::span<const int64_t> places, void* whole,
              int root);

  // Has a collective of some group that moves bytes been left by an error? MPI still reads and writes its buffers, which
  // are gone with the caller, whenever it is called again, for whatever: then it must not be.
  static bool was_left();

  // all_gather that gives up at the deadline: false, and both buffers must then live until the program ends.
  bool all_gather_until(std::chrono::steady_clock::time_point deadline, const void* part, void* whole, int64_t bytes);

 private:
  struct Handle;
  MpiGroup(std::unique_ptr<Handle> handle);
  enum class Buffers : uint8_t { some, none };
  void complete(Buffers buffers = Buffers::some);

  std::unique_ptr<Handle> handle_;
  WaitPolicy policy_;
  int rank_ = 0, size_ = 1;
};

}  // namespace llama_tp
