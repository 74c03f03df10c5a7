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
// Among the tensor-parallel ranks, by size.
void bench_collectives(const Bench& bench);

}  // namespace llama_tp
