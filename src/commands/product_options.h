// --products FILE: how matrix products are computed, where a GPU's library has several ways.
#pragma once

#include "backend/product_tuner.h"
#include "commands/options.h"
#include "parallel/launch.h"

namespace llama_tp {

void declare_products(Options& options);
// Read by every rank. Errors: no such file.
ProductFile products_from(const Options& options);
// Before the backend is made.
void set_products(const Options& options, Launch& launch);

// A file of tuned products that is there.
ProductFile read_product_file(const std::string& path);

}  // namespace llama_tp
