// The two communicators that need no other process: a group of one, and one rank of a rehearsal, which only counts.
#pragma once

#include "parallel/communicator.h"

namespace llama_tp {

// A group of one, on host memory: copies where part and whole are different tensors, and counts nothing.
class LoneCommunicator : public Communicator {
 public:
  LoneCommunicator() : Communicator(0, 1) {}

 protected:
  Pending run_all_reduce(const Tensor&) override { return {}; }
  Pending run_all_gather(const Tensor& part, const Tensor& whole) override;
  Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) override;
  Pending run_broadcast(const Tensor&, int) override { return {}; }
};

// Rank `rank` of `size` as a rehearsal sees it: sends nothing and touches no memory; traffic() says what a real one
// would send.
class MetaCommunicator : public Communicator {
 public:
  // Errors: a rank outside of the group.
  MetaCommunicator(int rank, int size);

 protected:
  Pending run_all_reduce(const Tensor&) override { return {}; }
  Pending run_all_gather(const Tensor&, const Tensor&) override { return {}; }
  Pending run_reduce_scatter(const Tensor&, const Tensor&) override { return {}; }
  Pending run_broadcast(const Tensor&, int) override { return {}; }
};

}  // namespace llama_tp
