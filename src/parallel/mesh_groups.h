// The groups in which a rank of a mesh exchanges tensors: one for each dimension, and one within a dimension.
#pragma once

#include <array>

#include "parallel/communicator.h"

namespace llama_tp {

inline constexpr int mesh_group_count = 4;
// As users read them, in the order of MeshGroups::all.
inline constexpr std::array<const char*, mesh_group_count> mesh_group_names{"tensor", "kv_replicas", "fsdp", "data"};

struct MeshGroups {
  Communicator& tensor;       // ranks with a slice each of the same weights, which see the same data
  Communicator& kv_replicas;  // of those the ones with the same key/value heads; one rank where heads suffice for all
  Communicator& fsdp;         // ranks that share the weights of this one's slice (--fsdp)
  Communicator& replicas;     // ranks that hold the same as this one and see other data (--data-parallel)

  std::array<Communicator*, mesh_group_count> all() const { return {&tensor, &kv_replicas, &fsdp, &replicas}; }
};

}  // namespace llama_tp
