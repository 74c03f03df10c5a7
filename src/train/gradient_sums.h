// The sums of a step's gradients over ranks, unit by unit. Over tensor ranks most weights need none: each rank has all
// that the gradient of its slice takes, and what else is whole has seen the same on all of them. But three kinds are on
// several ranks each of which saw a part of their use: key/value heads that ranks share (each its own queries), norms of
// heads (its own heads) and, sequence-parallel, the norms of the stream (its own tokens); Parameter::summed_over says
// which. Then all gradients are summed over the replicas, which saw other samples. A unit's sums begin as soon as
// backward has all of its gradient; where collectives run beside operations, the replicas' goes on while backward is at
// the units below it.
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
