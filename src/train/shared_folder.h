// Whether hosts share the file system of an output folder, or have a disk of their own each.
#pragma once

#include <vector>

#include "io/checkpoint_files.h"
#include "parallel/host_group.h"

namespace llama_tp {

// The ranks that see what rank 0 writes into its output folder (null on the others), rank 0 first. Collective.
std::vector<int> ranks_that_see(const OutputFolder* output, HostGroup& world);

}  // namespace llama_tp
