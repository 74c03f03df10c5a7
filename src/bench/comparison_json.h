// A comparison for programs: every scheme, rule and block size, in bytes and seconds.
#pragma once

#include <string>

#include "bench/comparison.h"

namespace llama_tp {

// verdict: the sentences that were printed.
std::string comparison_json(const ComparisonRun& run, const std::string& verdict);

}  // namespace llama_tp
