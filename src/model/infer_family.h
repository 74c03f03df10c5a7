// A family for a model that none lists, from the names and shapes of its tensors and the sizes in its config.json. What
// each tensor is follows from its shape where only one part of a block has it, else from the words in its name, else
// from what the others leave over.
#pragma once

#include <filesystem>
#include <string>

#include "io/model_files.h"

namespace llama_tp {

struct InferredFamily {
  std::string text;  // as a file of src/model/families
};

// What no tensor shows and every family found has.
inline constexpr const char* assumed_of_tensors =
    "norms multiply by w, not by 1 + w; q and k are normed before they turn; the pairs that turn are (i, i + d/2); the "
    "embedding is not scaled unless a key says so; logits_scaling divides the logits; what is packed lies in the order "
    "q, k, v and gate, up";

// The result has been held against the files as any family is. Errors: tensors that no part has the shape of, that
// could be several, or parts without a tensor: by name.
InferredFamily infer_family(const ModelFiles& files, const std::filesystem::path& config_file);

}  // namespace llama_tp
