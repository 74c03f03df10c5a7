// What train saves: checkpoints, the model as Hugging Face keeps it with what the run needs to go on; and gradients.
#pragma once

#include <string>
#include <vector>

#include "io/checkpoint_files.h"
#include "parallel/mesh.h"
#include "train/training_state.h"

namespace llama_tp {

// What all checkpoints of a run have in common.
struct CheckpointContents {
  bool only_model = false;         // without training_state/
  std::vector<CarriedFile> files;  // rank 0's: config.json, the tokenizer's, …
  std::vector<int> writers{0};     // ranks that see the output folder and hold the first copy of the weights
};

// Collective over all ranks. Tensors are gathered a few MiB at a time; the folder appears when it is whole. Errors: a
// full disk, a weight too large for an f16; nothing that was saved before is touched.
void save_checkpoint(const std::string& output_folder, const TrainingState& state, const CheckpointContents& contents,
                     const Parameters& parameters, Backend& backend, const Mesh& mesh);

// Bytes of the safetensors files, with their indices, of such a checkpoint of a run of this type, and of all files of one;
// of whatever mesh.
int64_t tensor_file_bytes(DType dtype, DType save_dtype, bool only_model, const Parameters& parameters);
int64_t checkpoint_bytes(const TrainingState& state, const CheckpointContents& contents, const Parameters& parameters);

// The gradients as they are, in one file.
void save_gradients(const std::string& path, const Parameters& parameters, Backend& backend, const Mesh& mesh);

}  // namespace llama_tp
