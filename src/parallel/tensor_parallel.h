// Megatron's f and g (Shoeybi et al. 2019), and g with a bar (Korthikanti et al. 2022): how activations enter and leave
// a region whose weights are split over the tensor-parallel ranks.
//
//              whole between the regions     sequence-parallel: rank r holds the r-th part of the tokens
//              forward       backward        forward           backward
//   enter      the same      all-reduce      all-gather        reduce-scatter
//   leave      all-reduce    the same        reduce-scatter    all-gather
//
// Each one's backward is the other's forward. In a region that the plan does not split (its modules are "replicated")
// nothing is partial: it sends nothing, or under sequence parallelism gathers and then keeps its own tokens.
//
// T: the tokens of a forward; S: those of this rank between the regions, T / ranks or T.
#pragma once

#include "backend/arena.h"
#include "backend/backend.h"
#include "parallel/communicator.h"

namespace llama_tp {

class TensorParallel {
 public:
  TensorParallel(Communicator& group, Backend& backend, bool split, bool sequence)
      : group_(&group), backend_(&backend), split_(split), sequence_(sequence) {}

  // S of `tokens`, which the ranks divide under sequence parallelism.
  int64_t own_tokens(int64_t tokens) const { return sequence_ ? tokens / group_->size() : tokens; }

  // x: [S, H] becomes [T, H]: x itself where it is whole, else taken from the frame.
  Tensor enter(Frame& frame, const Tensor& x) const { return gather(frame, x); }
  // Where a region writes what will leave as y, [S, H]: [T, H], y itself or taken from the frame.
  Tensor before_leaving(Frame& frame, const Tensor& y) const { return sequence_ ? take_whole(frame, y) : y; }
  // partial: [T, H], summed over the ranks into y: [S, H].
  void leave(const Tensor& partial, const Tensor& y) const { sum(partial, y); }

  // dpartial: [T, H], this rank's part of the gradient of what entered; summed over the ranks into dx: [S, H].
  void enter_backward(const Tensor& dpartial, const Tensor& dx) const { sum(dpartial, dx); }
  // dy: [S, H], the gradient of what left, becomes [T, H].
  Tensor leave_backward(Frame& frame, const Tensor& dy) const { return gather(frame, dy); }

  // A bias after a row-parallel product must be added once: by the first rank's partial sum.
  bool adds_bias() const { return !split_ || group_->rank() == 0; }

 private:
  Tensor take_whole(Frame& frame, const Tensor& part) const {
    return frame.take(Category::transient, {part.shape[0] * group_->size(), part.shape[1]}, part.dtype);
  }

  Tensor gather(Frame& frame, const Tensor& part) const {
    if (!sequence_) return part;
    const Tensor whole = take_whole(frame, part);
    group_->all_gather(part, whole).wait();
    return whole;
  }

  void sum(const Tensor& partial, const Tensor& result) const {
    if (!sequence_) {
      if (split_) group_->all_reduce(partial).wait();  // in place: they are one tensor
    } else if (split_) {
      group_->reduce_scatter(partial, result).wait();
    } else {
      backend_->zero(result);
      backend_->add(partial.rows(group_->rank() * result.shape[0], result.shape[0]), result);
    }
  }

  Communicator* group_;
  Backend* backend_;
  bool split_, sequence_;
};

}  // namespace llama_tp
