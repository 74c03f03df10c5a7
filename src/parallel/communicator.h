// Collectives of one group of ranks, on tensors. MPI with shared memory inside a node (mpi_communicator.h), NCCL
// (nccl_communicator.h), a lone rank, or a rehearsal that only counts (both in local_communicator.h). Every rank gets
// the same bits, so replicas stay equal by construction, and two runs of one mesh agree bitwise. With MPI sums run in
// f32 in the order of the ranks; NCCL has an order of its own.
//
// All that ranks exchange, and by which class:
//   TensorParallel   tensor_parallel.h   activations, into a layer's split region and out of it, by a Communicator
//   Communicator     here                tensors: checks and counts, then one virtual call of MPI, NCCL or none
//   HostGroup        host_group.h        small values and pieces of files, in host memory
//   MpiGroup         mpi_group.h         bytes of host memory by MPI: below HostGroup, and Communicator across nodes
//   SharedWindow     shared_window.h     the same by memory that ranks share: below Communicator within a node
//   MeetingPoint     whereabouts.h       nothing: notes in which collective this rank is, for who waits too long
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/ledger.h"
#include "backend/tensor.h"

namespace llama_tp {

// What a collective in flight leaves behind. What it reads and writes must live until wait() returned.
// With MPI the work is done when the call returns; with NCCL wait() makes the compute stream wait for the communication
// stream's event.
class [[nodiscard]] Pending {
 public:
  // What goes on behind the host's back; belongs to the communicator.
  class Work {
   public:
    virtual void wait() = 0;

   protected:
    ~Work() = default;
  };

  Pending() = default;
  explicit Pending(Work& work) : work_(&work) {}
  void wait() {
    if (work_ != nullptr) work_->wait();
  }

 private:
  Work* work_ = nullptr;
};

enum class Collective : uint8_t { all_reduce, all_gather, reduce_scatter, broadcast, count_ };
std::string_view name_of(Collective collective);

struct Traffic {
  int64_t calls = 0;
  int64_t bytes = 0;  // payload: of the whole tensor (all-reduce, broadcast: the tensor; all-gather, reduce-scatter:
                      // all ranks' parts together)
  bool operator==(const Traffic&) const = default;
};

// One of each collective.
using Traffics = std::array<Traffic, static_cast<size_t>(Collective::count_)>;

// One collective from its call to its return. With MPI that is the time for which the rank does nothing else: its own
// part of the work, and the wait for the ranks that came later. With NCCL it is the time of the call alone.
struct Exchange {
  Collective collective;
  int64_t bytes;  // payload
  std::chrono::steady_clock::time_point begin, end;
};

class Communicator {
 public:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}
  virtual ~Communicator() = default;
  int rank() const { return rank_; }
  int size() const { return size_; }

  // x = Σ over ranks of x, in place; f32, f64 or bf16 (MPI: summed in f32 and rounded once).
  Pending all_reduce(const Tensor& x);
  // whole = the ranks' parts, one after another: bytes of whole = size · bytes of part.
  Pending all_gather(const Tensor& part, const Tensor& whole);
  // part = this rank's piece of Σ over ranks of whole.
  Pending reduce_scatter(const Tensor& whole, const Tensor& part);
  // Rank root's x on every rank.
  Pending broadcast(const Tensor& x, int root);

  // Since the communicator was made. A group of one sends nothing and counts nothing.
  Traffic traffic(Collective collective) const;
  // Of that, in a phase of the work, as the ledger that follow() named had it.
  const Traffic& traffic(Collective collective, Phase phase) const {
    return traffic_[static_cast<size_t>(phase)][static_cast<size_t>(collective)];
  }
  void follow(const Ledger& ledger) { ledger_ = &ledger; }
  // Writes every collective to `log` from here on; null: to none.
  void log_to(std::vector<Exchange>* log) { log_ = log; }

 protected:
  virtual Pending run_all_reduce(const Tensor& x) = 0;
  virtual Pending run_all_gather(const Tensor& part, const Tensor& whole) = 0;
  virtual Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) = 0;
  virtual Pending run_broadcast(const Tensor& x, int root) = 0;

 private:
  class Counted;
  int rank_, size_;
  std::vector<Exchange>* log_ = nullptr;
  const Ledger* ledger_ = nullptr;
  std::array<Traffics, phase_count> traffic_{};
};

}  // namespace llama_tp
