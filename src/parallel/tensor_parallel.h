// How activations enter and leave a region, attention or mlp, whose weights are split over the tensor-parallel ranks.
// T: the tokens of a forward; S: those that this rank holds between the regions; H: hidden.
//
//                          whole: S = T      sequence-parallel: S = T / ranks
//   begin_enter            nothing           all-gather        [S, H] → [T, H]
//   leave                  all-reduce        reduce-scatter    [T, H] → [S, H]
//   begin_leave_backward   nothing           all-gather        [S, H] → [T, H]
//   begin_enter_backward   all-reduce        reduce-scatter    [T, H] → [S, H]
//
// Why sums: a rank has some of the region's channels or heads, and what its last product makes of these alone is one
// term of a sum over the ranks (leave). All ranks read the region's input, so its gradient is such a sum, too (enter's
// backward). The backward of one is the forward of the other. Whole, enter is f and leave g of Shoeybi et al. 2019;
// sequence-parallel, enter is g and leave ḡ of Korthikanti et al. 2022.
//
// In a region that the plan does not split (its modules are "replicated") nothing is partial: nothing is sent, or,
// sequence-parallel, all ranks gather and compute all tokens, and each keeps its own.
//
// Where the backend says so the tokens go in parts, so that one part's collective runs beside another's product
// (Megatron-LM: tp-comm-overlap). Sequence-parallel, each part is divided over the ranks by itself: rank r holds the r-th
// piece of every part. So all that enter and leave in a forward must be cut alike, or tokens change places; they are, as
// all have the same bytes a token.
//
// What begin_… starts goes on beside other work: do not overwrite its input or read its output until it was waited for.
#pragma once

#include <array>

#include "backend/arena.h"
#include "backend/backend.h"
#include "base/error.h"
#include "base/parts.h"
#include "parallel/communicator.h"

namespace llama_tp {

// A tensor whose tokens are on their way. each_part and wait give it when all of them are there.
class InFlight {
 public:
  explicit InFlight(const Tensor& tensor) : tensor_(tensor) {}

  // The tokens behind those that were added.
  void add(int64_t tokens, Pending pending) { parts_[count_++] = {tokens, pending}; }

  // use(begin, count) for these tokens as soon as they are there, in their order.
  template <class Use>
  Tensor each_part(const Use& use) {
    int64_t begin = 0;
    for (size_t i = 0; i < count_; i++) {
      parts_[i].pending.wait();
      use(begin, parts_[i].tokens);
      begin += parts_[i].tokens;
    }
    return tensor_;
  }
  Tensor wait() {
    return each_part([](int64_t, int64_t) {});
  }

 private:
  struct Part {
    int64_t tokens;
    Pending pending;
  };
  Tensor tensor_;
  std::array<Part, most_token_parts> parts_{};
  size_t count_ = 0;
};

// How many of its `own` tokens a rank has in a part, where each of `ranks` has so many.
inline int64_t own_tokens_of_a_part(const Backend& backend, int64_t own, int64_t ranks, int64_t token_bytes) {
  const int64_t tokens = own * ranks;
  return ceil_div(own, backend.token_parts(tokens, tokens * token_bytes));
}

class TensorParallel {
 public:
  struct Region {
    bool split = false;              // its weights, over the ranks
    bool sequence_parallel = false;  // the tokens outside of it are divided over the ranks
    int64_t token_bytes = 0;         // of all that enters and leaves: [H] of the run's type
  };

  TensorParallel(Communicator& group, Backend& backend, const Region& region)
      : group_(&group),
        backend_(&backend),
        split_(region.split),
        sequence_(region.sequence_parallel),
        token_bytes_(region.token_bytes) {}

  // S of `tokens`, which the ranks divide under sequence parallelism.
  int64_t own_tokens(int64_t tokens) const { return tokens / divisor(); }

  // Whether anything is sent.
  bool communicates() const { return group_->size() > 1 && (sequence_ || split_); }

  // Memory for the [T, H] of the region that belongs to `own`, [S, H] outside of it. Whole they are one tensor: own.
  Tensor take_whole(Frame& frame, const Tensor& own) const {
    if (!sequence_) return own;
    return frame.take(Category::transient, {own.shape[0] * group_->size(), own.shape[1]}, own.dtype);
  }

  // The same without taking memory: in `taken`, take_whole's for another one that is not read any more.
  Tensor whole_in(const Tensor& taken, const Tensor& own) const { return sequence_ ? taken : own; }

  // x: [S, H] becomes [T, H], in a tensor from take_whole.
  InFlight begin_enter(const Tensor& x, const Tensor& whole) const { return begin_gather(x, whole); }
  // partial: [T, H] from take_whole(y), summed over the ranks into y: [S, H]. make(begin, count) computes these tokens'
  // rows of partial.
  template <class Make>
  void leave(const Tensor& partial, const Tensor& y, const Make& make) const {
    begin_sum(partial, y, make).wait();
  }

  // dpartial: [T, H] from take_whole(dx), this rank's part of the gradient of what entered; summed into dx: [S, H].
  // Sequence-parallel in the parts of begin_enter, since these say which tokens are this rank's; nothing is computed
  // between them. Whole tokens have no such order, so one call sums them.
  InFlight begin_enter_backward(const Tensor& dpartial, const Tensor& dx) const {
    if (sequence_) return begin_sum(dpartial, dx, [](int64_t, int64_t) {});
    InFlight summing(dx);
    summing.add(dx.shape[0], begin_sum_of_part(dpartial, dx));
    return summing;
  }
  // dy: [S, H], the gradient of what left, becomes [T, H], likewise.
  InFlight begin_leave_backward(const Tensor& dy, const Tensor& whole) const { return begin_gather(dy, whole); }

  // A bias after a row-parallel product must be added once: to the first rank's partial sum.
  bool adds_bias() const { return !split_ || group_->rank() == 0; }

 private:
  int64_t divisor() const { return sequence_ ? group_->size() : 1; }

  // body(begin, count) of the tokens of own: [S, H], those of a part: that part itself is divisor() times as far and as
  // long.
  template <class Body>
  void each_part_of_own(const Tensor& own, const Body& body) const {
    const int64_t tokens = own.shape[0];
    require(own.bytes() == tokens * token_bytes_, "tokens of ", own.shape[1], " ", name_of(own.dtype),
            " enter or leave a region whose tokens have ", token_bytes_,
            " bytes; cut into other parts they would change places: give them the width and type of the stream");
    each_part(tokens, communicates() ? own_tokens_of_a_part(*backend_, tokens, divisor(), token_bytes_) : tokens, body);
  }

  InFlight begin_gather(const Tensor& own, const Tensor& whole) const {
    InFlight gathering(whole);
    if (!sequence_) {
      gathering.add(own.shape[0], {});
      return gathering;
    }
    each_part_of_own(own, [&](int64_t begin, int64_t count) {
      const Tensor part = whole.rows(begin * divisor(), count * divisor());
      gathering.add(part.shape[0], group_->all_gather(own.rows(begin, count), part));
    });
    return gathering;
  }

  template <class Make>
  InFlight begin_sum(const Tensor& partial, const Tensor& result, const Make& make) const {
    InFlight summing(result);
    each_part_of_own(result, [&](int64_t begin, int64_t count) {
      const int64_t whole = count * divisor();
      make(begin * divisor(), whole);
      summing.add(count, begin_sum_of_part(partial.rows(begin * divisor(), whole), result.rows(begin, count)));
    });
    return summing;
  }

  Pending begin_sum_of_part(const Tensor& partial, const Tensor& result) const {
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
  int64_t token_bytes_;
};

}  // namespace llama_tp
