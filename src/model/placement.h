// Which ranks do what: the mesh that the options ask for, against the model and the ranks that there are.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/config.h"
#include "parallel/mesh.h"

namespace llama_tp {

constexpr int64_t auto_size = 0;         // of one dimension: what the others leave
constexpr int64_t most_ranks = 1 << 20;  // of a mesh and of each dimension, so that their product is a number too

// --data-parallel, --fsdp, --tensor-parallel, where they were given.
struct MeshOptions {
  std::optional<int64_t> data, fsdp, tensor;
};

// fsdp is 1 unless it was given; auto, it takes what the others (1 unless given) leave. tensor and data are auto unless
// they were given: tensor takes the largest number that divides the ranks of each node and that the model's sizes allow,
// data the rest; one alone takes what is left. ranks_by: who says how many ranks there are. Errors: fsdp and
// another written as auto, a product that is not the number of ranks, a size that the model does not allow, with those
// that would do.
MeshShape resolve_mesh(const ModelConfig& config, const MeshOptions& options, int ranks, int ranks_of_node,
                       const char* ranks_by);

// resolve_mesh of the launched ranks. Collective. Errors: also check_same_config's.
std::unique_ptr<Mesh> make_mesh(const Launch& launch, const ModelConfig& config, const MeshOptions& options,
                                Backend& backend);

// What is said where these options, which leave the choice, could not take all ranks for tensor parallelism; else empty.
std::string describe_placement(const MeshOptions& options, const MeshShape& shape);

// What is said where nothing is trained and so many ranks hold a model `tensor` at a time: that the copies all do the same
// work. Empty without copies.
std::string repeated_work(const ModelConfig& config, int64_t tensor, int64_t ranks);

// What is said where the ranks that share each layer, neighbours in number, are on different hosts. Empty where none are.
std::string tensor_ranks_apart(const Launch& launch, const ModelConfig& config, const MeshShape& shape);

// How many consecutive tensor-parallel ranks hold the same key/value heads and are a group of their own.
int64_t kv_replicas(const ModelConfig& config, int64_t tensor_parallel);

}  // namespace llama_tp
