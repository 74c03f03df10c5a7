// The options that place a run on its ranks and hold these together, the same words for every command that has them.
#pragma once

#include "commands/options.h"
#include "model/fsdp.h"
#include "model/placement.h"

namespace llama_tp {

void declare_mesh(Options& options);
MeshOptions mesh_from(const Options& options);

void declare_fsdp(Options& options);
FsdpOptions fsdp_from(const Options& options);

// -t, --threads.
void declare_threads(Options& options);
// Before anything is made that has threads.
void set_threads(const Options& options, Launch& launch);

// --timeout.
void declare_timeout(Options& options);
void set_timeout(const Options& options, Launch& launch);

}  // namespace llama_tp
