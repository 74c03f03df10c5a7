// The options of a run that say nothing of its model or data: on which ranks and devices it runs, and how. The same words
// for every command that has them.
#pragma once

#include "backend/product_tuner.h"
#include "commands/options.h"
#include "model/fsdp.h"
#include "model/placement.h"
#include "parallel/launch.h"

namespace llama_tp {

void declare_mesh(Options& options);
MeshOptions mesh_from(const Options& options);

void declare_fsdp(Options& options);
FsdpOptions fsdp_from(const Options& options);

// -t, --threads.
void declare_threads(Options& options);
int threads_from(const Options& options, int otherwise);
// That, and --timeout.
void declare_launch(Options& options);

// --products FILE: how matrix products are computed, where a GPU's library has several ways.
void declare_products(Options& options);
// Read by every rank. Errors: no such file.
ProductFile products_from(const Options& options);
// A file of tuned products that is there.
ProductFile read_product_file(const std::string& path);
// That, and --backend.
void declare_backend(Options& options);

// Takes --threads, --timeout and --products over, before anything is made that has threads or a backend.
void set_launch(const Options& options, Launch& launch);

}  // namespace llama_tp
