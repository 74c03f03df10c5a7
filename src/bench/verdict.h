// What a comparison says in words: where tensor parallelism is ahead of FSDP, where they are even, and where it is
// behind. Every clause is a pair of measured numbers, and their order alone decides where it stands.
#pragma once

#include <string>

#include "bench/comparison.h"

namespace llama_tp {

// Of the first scheme that is tensor-parallel alone and the first that is FSDP alone; without both a line that says so.
std::string verdict(const ComparisonRun& run);

}  // namespace llama_tp
