// How a config comes to its tensor-parallel plan, and the sizes that this allows. The family gives the plan as data, a
// tp_plan in config.json may override it.
#pragma once

#include <string>

#include "model/config.h"

namespace llama_tp {

// read_model_config has done it; a config that is changed afterwards needs it again. Errors: an unknown word, a pattern
// that matches no module, a style that the module cannot have, halves that do not fit together: by name.
TensorParallelPlan resolve_plan(const ModelConfig& config);

// The sizes that check_tensor_parallel accepts, as people read them: "1, 2 or 4".
std::string tensor_parallel_sizes(const ModelConfig& config);
// Errors: tp does not divide what it has to, with the sizes that would work.
void check_tensor_parallel(const ModelConfig& config, int64_t tp);
// The largest size ≤ ranks that check_tensor_parallel accepts.
int64_t largest_tensor_parallel(const ModelConfig& config, int64_t ranks);

// Is this module repeated in every block?
bool in_block(const Module& module);
// The module's name in a layer: * replaced by the number.
std::string name_in_layer(const Module& module, int64_t layer);

}  // namespace llama_tp
