#include "parallel/mesh.h"

#include <algorithm>

#include "base/environment.h"
#include "parallel/launcher_variables.h"
#include "parallel/local_communicator.h"
#include "parallel/mpi_communicator.h"
#include "parallel/mpi_host_group.h"
#ifdef LLAMA_TP_CUDA_ARCH
#include "parallel/nccl_communicator.h"
#endif

namespace llama_tp {

namespace {

std::vector<int> ranks(int first, int count, int distance) {
  std::vector<int> list;
  for (int i = 0; i < count; i++) list.push_back(first + i * distance);
  return list;
}

std::unique_ptr<Communicator> communicator(const Launch& launch, const std::vector<int>& world_ranks, GroupName name,
                                           [[maybe_unused]] Backend& backend) {
#ifdef LLAMA_TP_CUDA_ARCH
  if (DeviceHandle* const device = backend.device()) return make_nccl_communicator(launch, world_ranks, name, *device);
#endif
  return make_communicator(launch, world_ranks, name);
}

std::string written(const MeshShape& shape) { return text(shape.data, " × ", shape.fsdp, " × ", shape.tensor); }

// All ranks see all shapes, and so the same error.
void check_shapes(const Launch& launch, HostGroup& world, const MeshShape& shape) {
  const std::vector<std::string> shapes = world.all_gather(written(shape));
  for (int rank = 1; rank < world.size(); rank++) {
    const std::string& theirs = shapes[static_cast<size_t>(rank)];
    require(theirs == shapes[0], "rank ", rank, " on ", launch.host_of(rank), " has a mesh of ", theirs,
            " (data × fsdp × tensor), but rank 0 on ", launch.host_of(0), " one of ", shapes[0],
            "; give all ranks the same options and the same model");
  }
}

// All ranks see all devices, and so the same error.
void check_devices(const Launch& launch, HostGroup& world, DeviceHandle* device) {
  const std::vector<std::string> hosts = world.all_gather(launch.host()),
                                 devices = world.all_gather(device == nullptr ? "" : device->identity),
                                 products = world.all_gather(device == nullptr ? "" : device->products);
  const std::vector<double> counts = world.all_gather(device == nullptr ? 0 : device->devices),
                            ahead = world.all_gather(device == nullptr || device->tokens_ahead ? 1 : 0),
                            graphs = world.all_gather(device == nullptr || device->graphs ? 1 : 0);
  // mpirun within a Slurm job of --gpus-per-task sees the devices of one task, and so do all ranks of its host.
  const char* const that_ranks_see =
      environment({"SLURM_JOB_ID"}) != nullptr ? " that they see (--gpus-per-node, --gpu-bind=none)" : "";
  const auto need_alike = [&](const std::vector<double>& values, size_t rank, const char* name) {
    require(values[rank] == values[0], "rank ", rank, " on ", hosts[rank], " has another ", name, " than rank 0 on ",
            hosts[0], "; give it to all hosts (mpirun -x ", name, ")");
  };
  for (size_t rank = 1; rank < devices.size(); rank++) {
    require(devices[rank].empty() == devices[0].empty(), "rank ", rank, " on ", hosts[rank], " computes on ",
            devices[rank].empty() ? "the CPU" : "a CUDA device", ", but rank 0 on ", hosts[0], " does not",
            "; give --backend cpu or cuda");
    require(products[rank] == products[0], "rank ", rank, " on ", hosts[rank], " has another file of --products than ",
            "rank 0 on ", hosts[0], "; copy one to all hosts, or leave --products out");
    need_alike(ahead, rank, "LLAMA_TP_TOKENS_AHEAD");
    need_alike(graphs, rank, "LLAMA_TP_CUDA_GRAPH");  // NCCL wants a call recorded on all ranks or on none
    for (size_t other = 0; other < rank && !devices[rank].empty(); other++) {
      if (hosts[rank] != hosts[other] || devices[rank] != devices[other]) continue;
      require(environment_switch("LLAMA_TP_SHARE_DEVICE", false), hosts[rank], " has ", static_cast<int>(counts[rank]),
              counts[rank] == 1 ? " CUDA device" : " CUDA devices", " for its ",
              std::count(hosts.begin(), hosts.end(), hosts[rank]), " ranks: ranks ", other, " and ", rank,
              " meet on one; start a rank a device", that_ranks_see,
              ", take --backend cpu, or let them share it with "
              "LLAMA_TP_SHARE_DEVICE=1, which is slow");
      const auto own = static_cast<size_t>(launch.rank());
      if (own == rank || own == other) device->shared = true;
    }
  }
}

}  // namespace

Mesh::Mesh(const Launch& launch, MeshShape shape, int kv_replicas, Backend& backend)
    : shape_(shape), rank_(launch.rank()) {
  require(shape.ranks() == launch.size(), "a mesh of ", written(shape), " needs ", shape.ranks(), " ranks, but ",
          launch.starter(), " ", launch.size());
  const int copy = shape.fsdp * shape.tensor;  // ranks that hold the weights once
  world_host_ = make_host_group(launch);
  check_shapes(launch, *world_host_, shape);
  copy_host_ = make_host_group(launch, ranks(copy_index() * copy, copy, 1), GroupName::copy);
  check_devices(launch, *world_host_, backend.device());
  const auto group = [&](const std::vector<int>& members, GroupName name) {
    return communicator(launch, members, name, backend);
  };
  tensor_ = group(ranks(rank_ - tensor_rank(), shape.tensor, 1), GroupName::tensor);
  fsdp_ = group(ranks(copy_index() * copy + tensor_rank(), shape.fsdp, shape.tensor), GroupName::fsdp);
  replicas_ = group(ranks(rank_ % copy, shape.data, copy), GroupName::data);
  kv_replicas_ = group(ranks(rank_ - tensor_rank() % kv_replicas, kv_replicas, 1), GroupName::kv_replicas);
}

Mesh::Mesh(MeshShape shape, int rank, int kv_replicas, Backend& backend) : shape_(shape), rank_(rank) {
  require(rank >= 0 && rank < shape.ranks(), "rank ", rank, " is not one of the ", shape.ranks(), " of a mesh of ",
          written(shape));
  const auto alone = [&](int own, int size) { return std::make_unique<StandInCommunicator>(own, size, backend); };
  world_host_ = make_lone_host_group();
  copy_host_ = make_lone_host_group();
  tensor_ = alone(tensor_rank(), shape.tensor);
  fsdp_ = alone(fsdp_rank(), shape.fsdp);
  replicas_ = alone(copy_index(), shape.data);
  kv_replicas_ = alone(tensor_rank() % kv_replicas, kv_replicas);
}

}  // namespace llama_tp
