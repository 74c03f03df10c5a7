// The loss of a validation file between the steps of a run.
#pragma once

#include "parallel/mesh.h"
#include "train/trainer.h"

namespace llama_tp {

// Mean loss over the data's targets, its samples divided among the data ranks. Collective over all ranks; `batch` is
// scratch; where the loss is not finite it is left with the first that made it so on this rank.
double mean_loss(Trainer& trainer, const Dataset& data, const BatchShape& shape, const Mesh& mesh, HostBatch& batch);

}  // namespace llama_tp
