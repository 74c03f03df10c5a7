// Fully sharded data parallelism: ZeRO-3 (Rajbhandari et al. 2020), what PyTorch's FSDP does. Ranks with different data
// share every unit of parameters, one flat buffer as in FSDP1 (FSDP2 divides each parameter by its rows): each keeps one
// piece of its weights, gradients and optimizer state. A unit's weights are gathered whole just before their use and
// dropped behind it; its gradients are made whole and summed into the pieces (reduce-scatter) as soon as backward has
// them. Layers know nothing of it: they read Weight::value and add to Weight::gradient, which are views of what is
// gathered here. On top of tensor parallelism a unit is this tensor rank's slice. Where nothing is sharded nothing is
// gathered or summed here.
//
// A micro-batch, of L blocks: forward gathers the embedding, each block, the head; backward gathers each block again
// unless they were kept, and reduce-scatters head, each block, embedding. The norms' unit is gathered once a step and
// reduced once. With prefetch, while a block computes, the next one is gathered and the gradients of the one before are
// scattered (where collectives run beside operations: parallel/communicator.h).
#pragma once

#include <array>
#include <functional>
#include <utility>
#include <vector>

#include "model/parameters.h"
#include "model/runtime.h"

namespace llama_tp {

struct FsdpOptions {
  bool prefetch = true;  // gather a block and scatter one's gradients while another computes: second buffers
  bool reshard_after_forward = true;  // drop a block's weights after forward and gather them again in backward
};

class Fsdp {
 public:
  // Takes the norms' whole buffers from the state arena. blocks: their number.
  Fsdp(Parameters& parameters, Runtime& runtime, const FsdpOptions& options, int64_t blocks);

  bool is_sharded() const { return runtime_.groups.fsdp.size() > 1; }
  // Before a step's first forward: the norms' weights are whole and their gradients zero; after its last backward they
  // are summed.
  void open_norms() const;
  void reduce_norms() const;

 private:
  friend class WholeUnit;
  friend class BlockLoop;
  Pending gather(const Unit& unit, const Tensor& whole) const;
  void reduce(const Unit& unit, const Tensor& whole) const;

  Parameters& parameters_;
  Runtime& runtime_;
  FsdpOptions options_;
  int64_t block_elements_ = 0;  // of the largest block
  std::vector<Tensor> kept_;    // blocks that wait whole for backward
  Tensor norms_, norm_gradients_;
};

// Called in backward with a unit once its gradient, with FSDP this rank's piece of it, has all of the micro-batch.
using OnGradientReady = std::function<void(const Unit&)>;

enum class Use : uint8_t { values, gradients, both };

// A unit's weights, gradients or both, whole until the scope ends.
class WholeUnit {
 public:
  WholeUnit(const Fsdp& fsdp, const Unit& unit, Use use);
  // Sums the gradients into the ranks' pieces.
  void reduce() const;
  ~WholeUnit();
  WholeUnit(const WholeUnit&) = delete;
  WholeUnit& operator=(const WholeUnit&) = delete;

 private:
  const Fsdp& fsdp_;
  const Unit& unit_;
  Frame frame_;
  Tensor gradients_;
};

// training_forward: what backward needs is kept if it is not resharded.
enum class Pass : uint8_t { forward, training_forward, backward };

// The blocks in the order of a pass, each whole between gather and release.
class BlockLoop {
 public:
  // frame: holds the buffers.
  BlockLoop(Fsdp& fsdp, Frame& frame, Pass pass);
  void gather(int64_t layer);
  // In backward, before a block's release: sums its gradients into the ranks' pieces. With prefetch that goes on while
  // the next block computes, so that the gradient that gets ready here is the one of the block before.
  void reduce(int64_t layer, const OnGradientReady& on_gradient_ready);
  // Behind the last block's, and before the frame ends.
  void end_reduce(const OnGradientReady& on_gradient_ready);
  void release(int64_t layer);

 private:
  void start(int64_t layer);
  bool keeps() const { return pass_ != Pass::forward && !fsdp_.options_.reshard_after_forward; }
  bool gathers() const { return !(pass_ == Pass::backward && keeps()); }
  // Of the second buffers, where there are some.
  size_t slot(int64_t layer) const { return fsdp_.options_.prefetch ? static_cast<size_t>(layer % 2) : 0; }
  Tensor& buffer(int64_t layer);
  Tensor gradients(int64_t layer) const;

  Fsdp& fsdp_;
  Pass pass_;
  int64_t started_ = -1;  // the block whose gathering began last
  std::array<Tensor, 2> slots_;
  std::array<Pending, 2> pending_;
  std::array<Tensor, 2> gradient_slots_;
  // Of the block that was reduced last, this rank's part on its way.
  const Unit* reducing_ = nullptr;
  Tensor part_;
  Pending pending_part_;
};

}  // namespace llama_tp
