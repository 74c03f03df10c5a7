// The options that place a run on its ranks, the same words for every command that has them.
#pragma once

#include "commands/options.h"
#include "model/fsdp.h"
#include "model/placement.h"

namespace llama_tp {

void declare_mesh(Options& options);
MeshOptions mesh_from(const Options& options);

void declare_fsdp(Options& options);
FsdpOptions fsdp_from(const Options& options);

}  // namespace llama_tp
