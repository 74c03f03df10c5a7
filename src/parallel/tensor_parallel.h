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
// What begin_… starts goes on beside other work: do not overwrite its input or read its output until wait().
//
// T: the tokens of a forward; S: those of this rank between the regions, T / ranks or T.
#pragma once

#include "backend/arena.h"
#include "backend/backend.h"
#include "parallel/communicator.h"

namespace llama_tp {

// [T, H] on its way: there once pending.wait() has returned.
struct InFlight {
  Tensor whole;
  Pending pending;
};

class TensorParallel {
 public:
  TensorParallel(Communicator& group, Backend& backend, bool split, bool sequence)
      : group_(&group), backend_(&backend), split_(split), sequence_(sequence) {}

  // S of `tokens`, which the ranks divide under sequence parallelism.
  int64_t own_tokens(int64_t tokens) const { return sequence_ ? tokens / group_->size() : tokens; }

  // Whether anything is sent.
  bool communicates() const { return group_->size() > 1 && (sequence_ || split_); }

  // x: [S, H] becomes [T, H]: x itself where it is whole, else taken from the frame.
  Tensor enter(Frame& frame, const Tensor& x) const { return waited_for(begin_gather(frame, x)); }
  InFlight begin_enter(Frame& frame, const Tensor& x) const { return begin_gather(frame, x); }
  // Where a region writes its part of what will be summed into y, [S, H]: [T, H], y itself or taken from the frame.
  Tensor take_partial(Frame& frame, const Tensor& y) const { return sequence_ ? take_whole(frame, y) : y; }
  // partial: [T, H], summed over the ranks into y: [S, H].
  void leave(const Tensor& partial, const Tensor& y) const { begin_sum(partial, y).wait(); }

  // dpartial: [T, H], this rank's part of the gradient of what entered; summed over the ranks into dx: [S, H].
  void enter_backward(const Tensor& dpartial, const Tensor& dx) const { begin_sum(dpartial, dx).wait(); }
  Pending begin_enter_backward(const Tensor& dpartial, const Tensor& dx) const { return begin_sum(dpartial, dx); }
  // dy: [S, H], the gradient of what left, becomes [T, H].
  Tensor leave_backward(Frame& frame, const Tensor& dy) const { return waited_for(begin_gather(frame, dy)); }
  InFlight begin_leave_backward(Frame& frame, const Tensor& dy) const { return begin_gather(frame, dy); }

  // A bias after a row-parallel product must be added once: by the first rank's partial sum.
  bool adds_bias() const { return !split_ || group_->rank() == 0; }

 private:
  Tensor take_whole(Frame& frame, const Tensor& part) const {
    return frame.take(Category::transient, {part.shape[0] * group_->size(), part.shape[1]}, part.dtype);
  }

  InFlight begin_gather(Frame& frame, const Tensor& part) const {
    if (!sequence_) return {part, {}};
    const Tensor whole = take_whole(frame, part);
    return {whole, group_->all_gather(part, whole)};
  }

  static Tensor waited_for(InFlight gathering) {
    gathering.pending.wait();
    return gathering.whole;
  }

  Pending begin_sum(const Tensor& partial, const Tensor& result) const {
    if (split_ && sequence_) return group_->reduce_scatter(partial, result);
    if (split_) return group_->all_reduce(partial);  // in place: they are one tensor
    if (sequence_) {
      backend_->zero(result);
      backend_->add(partial.rows(group_->rank() * result.shape[0], result.shape[0]), result);
    }
    return {};
  }

  Communicator* group_;
  Backend* backend_;
  bool split_, sequence_;
};

}  // namespace llama_tp
