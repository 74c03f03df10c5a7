// Weights from files into the parameter table, or from a random generator. Files are global (Hugging Face's names and
// shapes); each rank reads only the slices that the table names.
#pragma once

#include <cstdint>
#include <optional>

#include "io/model_files.h"
#include "model/parameters.h"

namespace llama_tp {

// Errors: a tensor missing, of another shape or type (none: any that is floating), or one that the model has no place
// for, by name and file; a head that is not the embedding that it is tied to (each rank compares its slice).
void check_tensors(const ModelFiles& files, const ModelConfig& config, const Parameters& parameters,
                   std::optional<DType> dtype = {});

// The part of it that reads no weights: names, shapes and types.
void check_tensor_headers(const ModelFiles& files, const ModelConfig& config, const Parameters& parameters,
                          std::optional<DType> dtype = {});

// Fills the weights (and in bf16 training what completes them to f32). Errors: check_tensors'.
void load_weights(const ModelFiles& files, const ModelConfig& config, Parameters& parameters, Backend& backend);

// The same from bf16 weights and what completes them to their f32 masters (Unit::rest). Both were checked.
void load_masters(const ModelFiles& weights, const ModelFiles& rests, Parameters& parameters, Backend& backend);

// Fills an f32 tensor of every weight (&Unit::m, say) from files with the weights' names and shapes that were
// checked.
void load_tensors(const ModelFiles& files, Tensor Unit::*which, Parameters& parameters, Backend& backend);

// Random weights: matrices normal with config's initializer_range, biases 0, norms 1 (those that multiply by 1 + w: 0),
// and the embedding of pad_id 0.
// Each element is a function of (seed, tensor name, global index), so every mesh starts from the same weights.
void initialize_weights(const ModelConfig& config, uint64_t seed, Parameters& parameters, Backend& backend);

}  // namespace llama_tp
