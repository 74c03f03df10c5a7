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

std::vector<GroupTraffic> traffic_of(const MeshShape& mesh, const Communicator& tensor, const Communicator& kv_replicas,
                                     const Communicator& shards, const Communicator& replicas) {
  return {traffic_of_group("tensor", tensor, 1), traffic_of_group("kv_replicas", kv_replicas, 1),
          traffic_of_group("fsdp", shards, mesh.tensor), traffic_of_group("data", replicas, mesh.tensor * mesh.fsdp)};
}

std::vector<GroupTraffic> traffic_of(const Mesh& mesh) {
  return traffic_of(mesh.shape(), mesh.tensor(), mesh.kv_replicas(), mesh.shards(), mesh.replicas());
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
