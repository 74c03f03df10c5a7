// `plan --compare`: training schemes side by side, rehearsed in one process: what each needs, sends and takes, whether
// it fits, and why.
#pragma once

#include <vector>

#include "bench/scheme.h"
#include "commands/plan_question.h"
#include "train/step_estimate.h"

namespace llama_tp {

struct SchemesToPlan : PlanQuestion {
  std::vector<Scheme> schemes;
  int64_t global_batch = 0;  // samples of a step; 0: the fewest that all schemes can divide
};

struct LongestBlock {
  int64_t tokens = 0;                 // 0: none fits
  bool longer_was_not_tried = false;  // and might fit
};

// The last multiple of 128 tokens up to `most` that fits. Memory grows with the length.
template <class Fits>
LongestBlock longest_block(int64_t most, Fits fits) {
  constexpr int64_t step = 128;
  const int64_t steps = most / step;
  int64_t fitting = 0, limit = steps + 1;
  while (limit - fitting > 1) {
    const int64_t middle = fitting + (limit - fitting) / 2;
    (fits(middle * step) ? fitting : limit) = middle;
  }
  return {fitting * step, fitting == steps};
}

// The smallest step and the one of equal work (bench/equal_work.h), and one of a single forward in which all schemes have the same number of samples in flight.
struct PlannedScheme {
  Scheme scheme;
  std::vector<RankPlan> smallest, equal, in_flight;
  LongestBlock longest;  // sample that fits, where there is a limit
};

struct PlannedComparison {
  int64_t global_batch = 1;
  // Samples of `in_flight`, the fewest that all schemes can divide; 0: it is left out, since all have as many in their
  // smallest step, or a forward would be of too many tokens.
  int64_t samples_in_flight = 0;
  std::vector<PlannedScheme> schemes;
};

// Errors: a global batch that a scheme cannot divide.
PlannedComparison compare_plans(const SchemesToPlan& asked);

void print_comparison(const SchemesToPlan& asked, const PlannedComparison& planned);
void print_comparison_json(const SchemesToPlan& asked, const PlannedComparison& planned);

}  // namespace llama_tp
