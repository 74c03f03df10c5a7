// The plain measurements of `llama_tp bench`, each beside the limit that binds it. All are collective and print their
// lines on rank 0.
#pragma once

#include "bench/bench.h"

namespace llama_tp {

// A training step: tokens/s, the share of the products' rate, memory.
void bench_training(const Bench& bench, const MachineRates& machine);
// A prompt, and one token after another behind it.
void bench_generation(const Bench& bench, const MachineRates& machine);
// Each operation at the sizes of the model on one of its tensor ranks, beside the machine's FLOP/s or bytes/s.
void bench_kernels(const Bench& bench, const MachineRates& machine);
// Reads a checkpoint's weights, beside plain reads of as many bytes of its files, into memory that is new and into the
// same again. An empty folder gets random weights first.
void bench_loading(const Bench& bench, const std::string& folder);
// Errors: bench_loading could not do that.
void check_loading(const Bench& bench, const std::string& folder);
// Among the tensor-parallel ranks, by size.
void bench_collectives(const Bench& bench);

}  // namespace llama_tp
