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
  require(shape.data * shape.tensor == launch.size(), "a mesh of ", shape.data, " × ", shape.tensor, " needs ",
          shape.data * shape.tensor, " ranks, but mpirun started ", launch.size());
  const int tensor_first = rank_ - tensor_rank();
  const std::vector<int> tensor = ranks(tensor_first, shape.tensor, 1);
  tensor_ = make_communicator(launch, tensor);
  data_ = make_communicator(launch, ranks(tensor_rank(), shape.data, shape.tensor));
  kv_replicas_ = make_communicator(launch, ranks(rank_ - tensor_rank() % kv_replicas, kv_replicas, 1));
  world_host_ = make_host_group(launch);
  tensor_host_ = make_host_group(launch, tensor);
}

}  // namespace llama_tp
