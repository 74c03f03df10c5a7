// The ranks as a grid, world = data × fsdp × tensor with tensor varying fastest (neighbours in a node), and a
// communicator for each dimension. Tensor-parallel ranks see the same data; the others see different data: fsdp ranks
// share one copy of the weights, data-parallel ranks have a copy each.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "parallel/host_group.h"
#include "parallel/launch.h"
#include "parallel/mesh_groups.h"

namespace llama_tp {

struct MeshShape {
  int data = 1, fsdp = 1, tensor = 1;
  int ranks() const { return data * fsdp * tensor; }
  // Ranks that see data of their own.
  int data_ranks() const { return data * fsdp; }
};

class Mesh {
 public:
  // kv_replicas: so many consecutive tensor ranks hold the same key/value heads. backend: in whose memory the tensors
  // are. Collective over all ranks. Errors: the shape is not that of the world, or not the same on all ranks; some ranks
  // compute on another kind of device than others; two compute on one (LLAMA_TP_SHARE_DEVICE=1 allows it).
  Mesh(const Launch& launch, MeshShape shape, int kv_replicas, Backend& backend);
  // Rank `rank` of the mesh alone in one process, the others stood in for (local_communicator.h). Errors: the mesh has
  // no such rank.
  Mesh(MeshShape shape, int rank, int kv_replicas, Backend& backend);

  const MeshShape& shape() const { return shape_; }
  // (d · fsdp + f) · tensor + t: tensor_rank() is t, fsdp_rank() f, copy_index() d, and data_rank() d · fsdp + f.
  int rank() const { return rank_; }
  // Among those that see data of their own.
  int data_rank() const { return rank_ / shape_.tensor; }
  int fsdp_rank() const { return data_rank() % shape_.fsdp; }
  int tensor_rank() const { return rank_ % shape_.tensor; }
  // Of the copy of the weights that this rank has a part of.
  int copy_index() const { return rank_ / (shape_.tensor * shape_.fsdp); }

  MeshGroups groups() const { return {*tensor_, *kv_replicas_, *fsdp_, *replicas_}; }
  // In host memory: all ranks, and those that hold one copy of the weights together, tensor ranks fastest.
  HostGroup& world() const { return *world_host_; }
  HostGroup& copy_host() const { return *copy_host_; }

 private:
  MeshShape shape_;
  int rank_;
  std::unique_ptr<Communicator> tensor_, kv_replicas_, fsdp_, replicas_;
  std::unique_ptr<HostGroup> world_host_, copy_host_;
};

}  // namespace llama_tp
