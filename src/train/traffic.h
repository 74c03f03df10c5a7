// What a rank sends in a step, by group of the mesh and phase: as a rehearsal foresees it, or as a run counted it.
#pragma once

#include <array>
#include <vector>

#include "parallel/mesh.h"

namespace llama_tp {

struct GroupTraffic {
  const char* group;  // of mesh_group_names
  int size = 1;
  int64_t reach = 1;  // successive ranks of the world among which the group's are
  Traffics of{};
  std::array<Traffics, phase_count> of_phase{};  // which together are `of`
};

// Of a rank's groups in a mesh of this shape, since they were made.
std::vector<GroupTraffic> traffic_of(const MeshShape& mesh, const MeshGroups& groups);

// What came after `before` was taken.
std::vector<GroupTraffic> operator-(std::vector<GroupTraffic> after, const std::vector<GroupTraffic>& before);

}  // namespace llama_tp
