#include "parallel/mesh.h"

#include "parallel/mpi_communicator.h"
#include "parallel/mpi_host_group.h"

namespace llama_tp {

namespace {

std::vector<int> ranks(int first, int count, int distance) {
  std::vector<int> list;
  for (int i = 0; i < count; i++) list.push_back(first + i * distance);
  return list;
}

}  // namespace

Mesh::Mesh(const Launch& launch, MeshShape shape, int kv_replicas) : shape_(shape), rank_(launch.rank()) {
  require(shape.ranks() == launch.size(), "a mesh of ", shape.data, " × ", shape.fsdp, " × ", shape.tensor, " needs ",
          shape.ranks(), " ranks, but mpirun started ", launch.size());
  launch.meet();  // making a group waits inside of MPI, where nobody sees a rank that does not come
  const int copy = shape.fsdp * shape.tensor;  // ranks that hold the weights once
  tensor_ = make_communicator(launch, ranks(rank_ - tensor_rank(), shape.tensor, 1), GroupName::tensor);
  shards_ =
      make_communicator(launch, ranks(replica() * copy + tensor_rank(), shape.fsdp, shape.tensor), GroupName::fsdp);
  replicas_ = make_communicator(launch, ranks(rank_ % copy, shape.data, copy), GroupName::data);
  kv_replicas_ =
      make_communicator(launch, ranks(rank_ - tensor_rank() % kv_replicas, kv_replicas, 1), GroupName::kv_replicas);
  world_host_ = make_host_group(launch);
  replica_host_ = make_host_group(launch, ranks(replica() * copy, copy, 1), GroupName::copy);
}

}  // namespace llama_tp
