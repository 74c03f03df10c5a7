// Makes the communicator for a list of ranks: through shared memory inside a node (shared_window.h), by MPI messages
// across nodes, a lone one for a group of one. All sum in rank order and give every rank the same bits.
#pragma once

#include <memory>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/launch.h"

namespace llama_tp {

// Collective over the listed ranks of the world, which become ranks 0, 1, … of the group in this order; this process is
// one of them. name: for who waits for a rank that does not come. pretended_ranks_per_node: for tests, ranks k·n … k·n
// + n − 1 of the world count as node k; 0: the true nodes. Errors: a list without this rank, or with more ranks than
// the world; /dev/shm (SharedMemory's).
std::unique_ptr<Communicator> make_communicator(const Launch& launch, const std::vector<int>& world_ranks,
                                                GroupName name = GroupName::other, int pretended_ranks_per_node = 0);

}  // namespace llama_tp
