// A comparison for programs: every scheme, rule and block size, in bytes and seconds; or a rehearsal, one scheme on one
// rank.
#pragma once

#include <string>

#include "bench/comparison.h"

namespace llama_tp {

// verdict: the sentences that were printed.
std::string comparison_json(const ComparisonRun& run, const std::string& verdict);
std::string lone_rank_json(const SchemeResult& result, const LoneRank& lone);

}  // namespace llama_tp
