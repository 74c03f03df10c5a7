// What a comparison prints: a table a batch rule with a column for each scheme, and growth with
// context.
#pragma once

#include <string>

#include "bench/comparison.h"

namespace llama_tp {

std::string comparison_table(const Comparison& comparison);
// Peak memory and time of a step by block size; "" without a sweep.
std::string growth_table(const ComparisonRun& run);
// What was not run, and why; "" where all was.
std::string unfit_lines(const ComparisonRun& run);

}  // namespace llama_tp
