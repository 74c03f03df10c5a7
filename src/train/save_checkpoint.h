// What train saves: checkpoints, the model as Hugging Face keeps it with what the run needs to go on; and gradients.
#pragma once

#include <string>
#include <vector>

#include "io/checkpoint_files.h"
#include "parallel/mesh.h"
#include "train/training_state.h"

namespace llama_tp {

// Collective over all ranks. Tensors are gathered a few MiB at a time; the folder appears when it is whole.
// config_text: of config.json. carried: rank 0's. Errors: a full disk, a weight too large for an f16; nothing that was saved before is
// touched.
void save_checkpoint(const std::string& output_folder, const TrainingState& state, const std::string& config_text,
                     const std::vector<CarriedFile>& carried, const Parameters& parameters, Backend& backend,
                     const Mesh& mesh);

// The gradients as they are, in one file.
void save_gradients(const std::string& path, const Parameters& parameters, Backend& backend, const Mesh& mesh);

}  // namespace llama_tp
