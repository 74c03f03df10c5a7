// That all ranks have the same model: hosts may have files of their own behind one path, and ranks with other sizes would
// send each other messages of other lengths, with other weights compute what is no model's.
#pragma once

#include <string>

#include "io/model_files.h"
#include "model/config.h"
#include "parallel/host_group.h"
#include "parallel/launch.h"

namespace llama_tp {

// Each is collective over all ranks of `world`.

// Errors: another key or value in config.json than rank 0 has.
void check_same_config(const Launch& launch, HostGroup& world, const ModelConfig& config);

// That all ranks took the same folder for what was asked for, where that is an output folder (resolve_model_folder): a
// training may have saved meanwhile. Errors: another checkpoint than rank 0's.
void check_same_checkpoint(const Launch& launch, HostGroup& world, const std::string& asked, const std::string& folder);

// Reads of every tensor only its first bytes: what was trained otherwise differs there, too. Errors: other tensors, or
// other bytes, than rank 0 has.
void check_same_weights(const Launch& launch, HostGroup& world, const ModelFiles& files);

}  // namespace llama_tp
