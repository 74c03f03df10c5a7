// Weights from the parameter table into files, which are global (Hugging Face's names and shapes): gathered piece by
// piece, so that no rank ever holds a second copy of anything large.
#pragma once

#include <string>
#include <vector>

#include "io/safetensors_writer.h"
#include "model/parameters.h"
#include "parallel/host_group.h"

namespace llama_tp {

// The tensors of a file of all parameters in the given type.
std::vector<PlannedTensor> planned_tensors(const Parameters& parameters, DType dtype);

// Writes one tensor of every weight (&Unit::value, gradient, m, …), whole, into the planned files of a folder as
// `dtype`: the bytes that are stored, or values of another type rounded to nearest, ties to even; those of a bf16
// training run from their f32 masters. Collective over the ranks that together hold the model once (shards ×
// tensor-parallel ranks); the writers, ranks of these that see the folder, take turns with the files. Errors: a full
// disk; an f16 that would be infinite.
void write_parameters(const Parameters& parameters, Tensor Unit::*which, DType dtype, const SavePlan& plan,
                      const std::string& folder, Backend& backend, HostGroup& ranks, const std::vector<int>& writers);

// The same as the files of a model, with their index where there are several.
void write_model(const Parameters& parameters, Tensor Unit::*which, DType dtype, const std::string& folder,
                 Backend& backend, HostGroup& ranks, const std::vector<int>& writers);

}  // namespace llama_tp
