#include "model/placement.h"

#include <algorithm>

namespace llama_tp {

namespace {

int64_t automatic(const ModelConfig& config, const TensorParallelPlan& plan, int64_t ranks) {
  int64_t size = ranks;
  while (ranks % size != 0 || largest_tensor_parallel(config, plan, size) != size) size--;
  return size;
}

}  // namespace

int64_t kv_replicas(const ModelConfig& config, const TensorParallelPlan& plan, int64_t tensor_parallel) {
  const bool attention =
      std::any_of(plan.layers.begin(), plan.layers.end(), [](const auto& layer) { return layer.attention; });
  return attention ? std::max<int64_t>(1, tensor_parallel / config.kv_heads) : 1;
}

std::unique_ptr<Mesh> make_mesh(const Launch& launch, const ModelConfig& config, const TensorParallelPlan& plan,
                                int64_t wanted, std::string& said) {
  const int64_t ranks = launch.size();
  int64_t tensor = wanted;
  if (wanted == 0) {
    tensor = automatic(config, plan, ranks);
    if (tensor < ranks)
      said = text("tensor-parallel auto: ", tensor, " of ", ranks,
                  " ranks, the most that the model's sizes allow; the rest is data-parallel");
  }
  require(tensor >= 1 && ranks % tensor == 0, "--tensor-parallel ", tensor, " does not divide the ", ranks,
          " ranks that mpirun started; start a multiple of it, or take --tensor-parallel auto");
  check_tensor_parallel(config, plan, tensor);
  return std::make_unique<Mesh>(launch, MeshShape{static_cast<int>(ranks / tensor), static_cast<int>(tensor)},
                                static_cast<int>(kv_replicas(config, plan, tensor)));
}

}  // namespace llama_tp
