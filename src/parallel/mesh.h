// The ranks as a grid, world = data × tensor with tensor varying fastest (neighbours in a node), and a communicator for
// each dimension. Tensor-parallel ranks see the same data, data-parallel ranks different data.
#pragma once

#include <memory>

#include "parallel/communicator.h"
#include "parallel/host_group.h"
#include "parallel/launch.h"

namespace llama_tp {

struct MeshShape {
  int data = 1, tensor = 1;
};

class Mesh {
 public:
  // kv_replicas: so many consecutive tensor ranks hold the same key/value heads. Collective over all ranks.
  // Errors: the shape is not that of the world.
  Mesh(const Launch& launch, MeshShape shape, int kv_replicas);

  const MeshShape& shape() const { return shape_; }
  int data_rank() const { return rank_ / shape_.tensor; }
  int tensor_rank() const { return rank_ % shape_.tensor; }

  Communicator& tensor() const { return *tensor_; }
  Communicator& data() const { return *data_; }
  Communicator& kv_replicas() const { return *kv_replicas_; }
  // In host memory: all ranks, and this rank's tensor group.
  HostGroup& world() const { return *world_host_; }
  HostGroup& tensor_host() const { return *tensor_host_; }

 private:
  MeshShape shape_;
  int rank_;
  std::unique_ptr<Communicator> tensor_, data_, kv_replicas_;
  std::unique_ptr<HostGroup> world_host_, tensor_host_;
};

}  // namespace llama_tp
