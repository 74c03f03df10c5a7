// A family for a model that none lists, from the names and shapes of its tensors and the sizes in its config.json. What
// each tensor is follows from its shape where only one part of a block has it, else from the words in its name, else
// from what the others leave over.
#pragma once

#include <filesystem>
#include <string>

#include "io/model_files.h"

namespace llama_tp {

struct InferredFamily {
  std::string text;     // as a file of src/model/families
  std::string assumed;  // what no tensor shows
};

// The result has been held against the files as any family is. Errors: tensors that no part has the shape of, that
// could be several, or parts without a tensor: by name.
InferredFamily infer_family(const ModelFiles& files, const std::filesystem::path& config_file);

}  // namespace llama_tp
