// --tune-products: the matrix products of what was measured before, each by all the algorithms that the device's library
// has for it, into a file that later runs read with --products.
#pragma once

#include "backend/product_tuner.h"
#include "bench/bench.h"

namespace llama_tp {

// before: what the file holds already. Errors: the backend has nothing to choose; the file is of another device.
void check_tuning(const Bench& bench, const ProductFile& before);
// A table, and the file at `path` anew, with the other products of `before`. On the lone rank.
void bench_tuning(const Bench& bench, const std::string& path, const ProductFile& before);

}  // namespace llama_tp
