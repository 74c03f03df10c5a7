// --rehearse: one rank of a larger mesh, alone. Its operations are real and its weights random; its collectives send
// nothing but are counted, and copies of its own data stand in for what the other ranks would have sent. So its memory
// and the time of its computation are those of a rank of that mesh, and its losses mean nothing.
#pragma once

#include "bench/bench.h"

namespace llama_tp {

// "rank=0,world=8". Errors: other keys, no numbers, a rank that is not one of the world's.
LoneRank parse_lone_rank(const std::string& written);

// A few training steps, as a table.
void bench_lone_rank(const Bench& bench, const MachineRates& machine);

}  // namespace llama_tp
