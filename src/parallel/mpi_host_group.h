// The HostGroup of a list of ranks, over MPI; any size of text and pieces.
#pragma once

#include <memory>
#include <vector>

#include "parallel/host_group.h"
#include "parallel/launch.h"

namespace llama_tp {

// Collective over the listed ranks of the world, which become ranks 0, 1, … of the group in this order; this process is
// one of them. A list of one gives the lone group.
std::unique_ptr<HostGroup> make_host_group(const Launch& launch, const std::vector<int>& world_ranks,
                                           GroupName name = GroupName::other);
// Of all ranks.
std::unique_ptr<HostGroup> make_host_group(const Launch& launch);

}  // namespace llama_tp
