// Bytes that all ranks read and none writes: once on each node, in memory that its ranks share.
#pragma once

#include <memory>
#include <span>

#include "parallel/host_group.h"

namespace llama_tp {

struct NodeBytes {
  std::shared_ptr<const void> memory;  // that the bytes lie in; aligned for any plain type
  std::span<const char> bytes;
};

// Rank 0's bytes on every rank. Collective. Of ranks that can open each other's files by proc(5), which those of one node
// can, the first holds the bytes in a file without a name (memfd_create(2): its size is not limited by /dev/shm's, which is
// 64 MB in many containers), and the others map it. A rank without such a file gets a copy of its own. For a moment rank 0
// has the bytes twice. Errors: HostGroup's.
NodeBytes share_on_nodes(HostGroup& group, std::span<const char> bytes);

}  // namespace llama_tp
