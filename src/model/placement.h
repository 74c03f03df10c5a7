// Which ranks do what: --tensor-parallel resolved against the model and the ranks that mpirun started.
#pragma once

#include <memory>
#include <string>

#include "model/plan.h"
#include "parallel/mesh.h"

namespace llama_tp {

// wanted: the size of tensor parallelism, 0 for auto: the largest divisor of the number of ranks that the model's sizes
// allow. The rest of the ranks is data-parallel. `said` gets a line where auto could not take all ranks. Errors: a size
// that divides neither the ranks nor the model, with those that would.
std::unique_ptr<Mesh> make_mesh(const Launch& launch, const ModelConfig& config, const TensorParallelPlan& plan,
                                int64_t wanted, std::string& said);

// How many consecutive tensor-parallel ranks hold the same key/value heads and are a group of their own.
int64_t kv_replicas(const ModelConfig& config, const TensorParallelPlan& plan, int64_t tensor_parallel);

}  // namespace llama_tp
