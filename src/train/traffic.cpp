#include "train/traffic.h"

namespace llama_tp {

namespace {

GroupTraffic traffic_of_group(const char* group, const Communicator& communicator, int64_t stride) {
  GroupTraffic traffic{group, communicator.size(), communicator.size() * stride, {}, {}};
  for (size_t i = 0; i < traffic.of.size(); i++) {
    const auto collective = static_cast<Collective>(i);
    traffic.of[i] = communicator.traffic(collective);
    for (size_t phase = 0; phase < traffic.of_phase.size(); phase++)
      traffic.of_phase[phase][i] = communicator.traffic(collective, static_cast<Phase>(phase));
  }
  return traffic;
}

void subtract(Traffics& after, const Traffics& before) {
  for (size_t i = 0; i < after.size(); i++) {
    after[i].calls -= before[i].calls;
    after[i].bytes -= before[i].bytes;
  }
}

}  // namespace

std::vector<GroupTraffic> traffic_of(const MeshShape& mesh, const MeshGroups& groups) {
  const std::array<int64_t, mesh_group_count> strides{1, 1, mesh.tensor, int64_t{mesh.tensor} * mesh.fsdp};
  std::vector<GroupTraffic> all;
  for (size_t i = 0; i < mesh_group_count; i++)
    all.push_back(traffic_of_group(mesh_group_names[i], *groups.all()[i], strides[i]));
  return all;
}

std::vector<GroupTraffic> operator-(std::vector<GroupTraffic> after, const std::vector<GroupTraffic>& before) {
  for (size_t group = 0; group < after.size(); group++) {
    subtract(after[group].of, before[group].of);
    for (size_t phase = 0; phase < phase_count; phase++)
      subtract(after[group].of_phase[phase], before[group].of_phase[phase]);
  }
  return after;
}

}  // namespace llama_tp
