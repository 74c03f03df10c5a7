// The sums of a step's gradients over ranks, unit by unit: over those that saw a part of a weight's use each, then over
// the replicas. A unit's begin as soon as backward has all of its gradient; where collectives run beside operations,
// the replicas' goes on while backward is at the units below it.
#pragma once

#include <vector>

#include "model/parameters.h"
#include "model/runtime.h"

namespace llama_tp {

class GradientSums {
 public:
  GradientSums(const Parameters& parameters, Runtime& runtime);

  // The unit's gradient has all that this rank adds to it in this step. It must be left alone until end().
  void begin(const Unit& unit);
  // The sums that were begun are there from here on.
  void end();

 private:
  void sum_over_tensor_ranks(const Unit& unit);

  const Parameters& parameters_;
  Runtime& runtime_;
  std::vector<Pending> under_way_;
};

}  // namespace llama_tp
