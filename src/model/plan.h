// The tensor-parallel plan of one model: which modules are split over the ranks and how. The family gives it as data, a
// tp_plan in config.json may override it. What is split together must agree: q/k/v colwise with o rowwise, gate/up
// colwise with down rowwise, or all replicated.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace llama_tp {

struct TensorParallelPlan {
  struct Layer {
    bool attention = true, mlp = true;  // split?
  };
  std::vector<Layer> layers;
  bool embedding = true, head = true;
  // The style of a module in a layer, in Hugging Face's words; one outside of the blocks has a single entry.
  std::vector<std::vector<std::string>> styles;  // [module of the family][layer, or 0]
};

// Errors: an unknown word, a pattern that matches no module, a style that the module cannot have, halves that do not
// fit together: by name.
TensorParallelPlan resolve_plan(const ModelConfig& config);

// The sizes that check_tensor_parallel accepts, as people read them: "1, 2 or 4".
std::string tensor_parallel_sizes(const ModelConfig& config, const TensorParallelPlan& plan);
// Errors: tp does not divide what it has to, with the sizes that would work.
void check_tensor_parallel(const ModelConfig& config, const TensorParallelPlan& plan, int64_t tp);
// The largest size ≤ ranks that check_tensor_parallel accepts.
int64_t largest_tensor_parallel(const ModelConfig& config, const TensorParallelPlan& plan, int64_t ranks);

// Is this module repeated in every block?
bool in_block(const Module& module);
// The module's name in a layer: * replaced by the number.
std::string name_in_layer(const Module& module, int64_t layer);

}  // namespace llama_tp
