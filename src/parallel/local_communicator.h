// The communicators that need no other process: a group of one; one rank of a plan, which only counts; and one rank of a
// larger group that computes alone.
#pragma once

#include <deque>

#include "backend/backend.h"
#include "parallel/mesh_groups.h"
#include "parallel/timeline.h"

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

// The groups of a mesh of one rank.
class LoneGroups {
 public:
  operator MeshGroups() { return {lone_, lone_, lone_, lone_}; }

 private:
  LoneCommunicator lone_;
};

// Rank `rank` of `size` as a rehearsal sees it: sends nothing and touches no memory; traffic() says what a real one
// would send.
class MetaCommunicator : public Communicator {
 public:
  // Errors: a rank outside of the group.
  MetaCommunicator(int rank, int size);

  // Tells the timeline of every call and wait from here on, as those of this group of the rank's.
  void tell(Timeline& timeline, int group) {
    timeline_ = &timeline;
    group_ = group;
  }

 protected:
  Pending run_all_reduce(const Tensor& x) override { return told(Collective::all_reduce, x.bytes()); }
  Pending run_all_gather(const Tensor&, const Tensor& whole) override {
    return told(Collective::all_gather, whole.bytes());
  }
  Pending run_reduce_scatter(const Tensor& whole, const Tensor&) override {
    return told(Collective::reduce_scatter, whole.bytes());
  }
  Pending run_broadcast(const Tensor& x, int) override { return told(Collective::broadcast, x.bytes()); }

 private:
  struct Told final : Pending::Work {
    Timeline* timeline = nullptr;
    size_t call = 0;
    void wait() override { timeline->wait(call); }
  };
  Pending told(Collective collective, int64_t bytes);

  Timeline* timeline_ = nullptr;
  int group_ = 0;
  std::deque<Told> told_;  // their places stay
};

// The same for a rank that computes on a real backend, but alone: what the others would send is this rank's own part
// once more. So all memory that a collective would write is written, with numbers of the usual size.
class StandInCommunicator : public MetaCommunicator {
 public:
  StandInCommunicator(int rank, int size, Backend& backend) : MetaCommunicator(rank, size), backend_(backend) {}

 protected:
  Pending run_all_gather(const Tensor& part, const Tensor& whole) override;
  Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) override;

 private:
  void copy(const Tensor& from, const Tensor& to);
  Backend& backend_;
};

}  // namespace llama_tp
