// `bench --compare`: the schemes side by side, twice. At an equal global batch they do the same work; at the smallest
// batch each does the least that it can (bench/equal_work.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/scheme_run.h"

namespace llama_tp {

enum class BatchRule : uint8_t { equal, smallest };
std::string_view name_of(BatchRule rule);

struct Comparison {
  BatchRule rule;
  int64_t block_size;
  std::vector<SchemeResult> results;  // of each scheme, in growth not all of them measured
};

struct ComparisonSettings {
  std::vector<std::string> schemes;
  int64_t global_batch = 0;          // 0: the smallest that all schemes can divide
  std::vector<int64_t> block_sizes;  // of --sweep, beside the settings' own
};

struct ComparisonRun {
  std::vector<Scheme> schemes;  // those that fit at the block size of both rules
  // A line for each that does not fit, and for each size of a sweep at which one does not.
  std::vector<std::string> unfit;
  Comparison equal, smallest;
  // Memory and time by context: for each block size, ascending, both rules. Empty without --sweep.
  std::vector<Comparison> growth;
};

// "block-size=512,1024": the sizes, ascending. Errors: another key, no list, a size that is no number of tokens.
std::vector<int64_t> parse_sweep(const std::string& written);

// Collective. Errors: parse_schemes', a global batch that a scheme cannot divide, or no scheme that fits; before
// anything is run. A scheme that does not fit is left out.
ComparisonRun compare(const Bench& bench, const ComparisonSettings& settings);

}  // namespace llama_tp
