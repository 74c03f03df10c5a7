// Megatron's f and g (Shoeybi et al. 2019): how activations enter and leave a region whose weights are split over the
// tensor-parallel ranks.
//
//              forward                       backward
//   enter      the same tensor               all-reduce of the partial gradients
//   leave      all-reduce of partial sums    the same tensor
//
// Each one's backward is the other's forward. A region that the plan does not split (its modules are "replicated")
// sends nothing.
#pragma once

#include "parallel/communicator.h"

namespace llama_tp {

class TensorParallel {
 public:
  TensorParallel(Communicator& group, bool split) : group_(&group), split_(split) {}

  // x: [T, H], whole on every rank.
  Tensor enter(const Tensor& x) const { return x; }
  // partial: [T, H], summed in place over the ranks.
  void leave(const Tensor& partial) const { sum(partial); }
  // dx: [T, H], this rank's part of the gradient of what entered; summed in place.
  void enter_backward(const Tensor& dx) const { sum(dx); }
  // dy: [T, H], the gradient of what left, whole on every rank.
  Tensor leave_backward(const Tensor& dy) const { return dy; }

  // A bias after a row-parallel product must be added once: by the first rank's partial sum.
  bool adds_bias() const { return !split_ || group_->rank() == 0; }

 private:
  void sum(const Tensor& x) const {
    if (split_) group_->all_reduce(x).wait();
  }

  Communicator* group_;
  bool split_;
};

}  // namespace llama_tp
