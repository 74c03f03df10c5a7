// One shared page a node on which a rank says that it has failed. Ranks that wait look at it (patience.h) and leave.
#pragma once

#include <chrono>
#include <cstdint>

#include "parallel/mpi_group.h"
#include "parallel/shared_memory.h"

namespace llama_tp {

class FailureBoard {
 public:
  // Collective over the ranks of one node.
  explicit FailureBoard(MpiGroup& node);

  // message_hash tells equal messages from different ones.
  void announce(uint64_t message_hash);
  bool someone_failed() const;
  // When the first rank of the node failed. Precondition: someone_failed().
  std::chrono::steady_clock::time_point first_failure() const;
  // Whether that rank of the node has failed, and the hash of its message.
  bool failed(int local_rank) const;
  uint64_t message_hash(int local_rank) const;

 private:
  struct Entry;
  Entry& entry(int local_rank) const;

  SharedMemory memory_;
  int local_rank_;
};

}  // namespace llama_tp
