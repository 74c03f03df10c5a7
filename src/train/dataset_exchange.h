// A dataset that rank 0 has read, on every rank.
#pragma once

#include "io/dataset.h"
#include "parallel/host_group.h"

namespace llama_tp {

// Collective. Rank 0's data replaces that of the others.
void exchange(Dataset& data, HostGroup& group);

}  // namespace llama_tp
