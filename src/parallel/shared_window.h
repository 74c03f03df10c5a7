// Collectives among ranks of one node, through memory that they share and without a call to MPI. Each rank copies its
// input into its own part of the window and reads the others'; sums are made in rank order, so every rank gets the same
// bits.
//
// Lanes. Thread l of each rank works with threads l of the others on its own cut of the tensor, through its own flags
// and buffers; lanes never meet, so a collective needs no barrier among the threads of a rank.
//
// Turns. A lane's work is a row of turns, each ended by a barrier of the ranks. Before barrier t a rank writes its
// buffer t mod 3; that buffer is read until barrier t + 2 at most (an all-reduce: inputs until t + 1, results until
// t + 2), and written again only after it. So one barrier a turn is enough, and the copying of the next chunk falls
// into the same turn as the summing of this one.
//
// Memory order. Arriving at a barrier is a release store of the turn into the rank's own flag; passing is an acquire
// load of at least that turn from every other flag. What a rank wrote before it arrived is therefore visible to all who
// pass, and what it read before it arrived was read before anybody who passes writes.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "parallel/mpi_group.h"
#include "parallel/shared_memory.h"

namespace llama_tp {

class SharedWindow {
 public:
  // Collective over the group, whose ranks share a node. threads: of this rank; the least of all ranks counts.
  // Takes 0.75 MiB of /dev/shm a rank. Errors: see SharedMemory.
  SharedWindow(MpiGroup& group, int threads, const WaitPolicy& policy);

  // As Communicator's, on host memory. Collective; the same sizes on every rank. Errors: Stopped;
  // Whereabouts::report's; a dtype that is not summed.
  void all_reduce(void* x, DType dtype, int64_t elements);
  // part may be its own place in whole.
  void all_gather(const void* part, void* whole, int64_t part_bytes);
  void reduce_scatter(const void* whole, void* part, DType dtype, int64_t part_elements);
  void broadcast(void* x, int64_t bytes, int root);

 private:
  class Lane;
  struct Share;
  template <class Work>
  void in_lanes(int64_t units, int64_t unit_bytes, int64_t traffic, const Work& work);

  int rank_, size_, lanes_ = 1;
  int64_t lane_bytes_ = 0;
  WaitPolicy policy_;
  SharedMemory memory_;
  // One a lane, each on cache lines of its own: the turn that the lane is in, and who it reads from in this turn.
  struct alignas(128) Progress {
    uint64_t turn = 0;
    std::vector<const void*> inputs;
  };
  std::vector<Progress> progress_;
};

}  // namespace llama_tp
