// Memory that ranks of one node share: a POSIX shared-memory object that loses its name as soon as all have opened it,
// so that nothing is left behind however the program ends, but where it is killed as it starts.
#pragma once

#include <cstdint>

#include "parallel/mpi_group.h"

namespace llama_tp {

class SharedMemory {
 public:
  // Collective over group, whose ranks share a node. size() times `bytes_per_rank` (rounded up to whole pages), zeroed;
  // each rank reserves its own part, which puts it on that rank's NUMA node and finds a full /dev/shm now, not by a
  // SIGBUS later. Errors, on every rank: /dev/shm is too small or not shared.
  SharedMemory(MpiGroup& group, int64_t bytes_per_rank);
  // Unmaps; waits for nobody.
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  char* part_of(int rank) const { return base_ + rank * bytes_per_rank_; }

 private:
  char* base_ = nullptr;
  int64_t bytes_per_rank_ = 0, bytes_ = 0;
};

}  // namespace llama_tp
