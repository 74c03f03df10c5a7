// How this process was started: alone, or as one of mpirun's ranks. A lone rank never touches MPI. Made once, first
// thing in a command; it divides the node's cores among its ranks, and it is where all ranks end together.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "backend/device.h"
#include "parallel/failure_board.h"
#include "parallel/patience.h"
#include "parallel/whereabouts.h"

namespace llama_tp {

class Launch {
 public:
  // Under mpirun: starts MPI, and gives this rank its contiguous share of the node's cores, for all its threads, unless
  // mpirun was told how to bind its ranks (--bind-to, --cpu-set, --map-by slot:pe=8, or a variable for these).
  // OMP_NUM_THREADS wins over the count. Lets OpenMP's threads spin shortly, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT
  // says otherwise. Both may start the program again in place (same process, same arguments), because the OpenMP runtime
  // reads processors and environment only at load: hence "first thing".
  // Where /dev/shm is full or not shared, or another MPI's launcher has started several processes, says so and ends the
  // job.
  Launch();
  // Ends MPI; waits for all ranks.
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  bool has_mpi() const { return world_ != nullptr; }
  // For an error that tells how many ranks there are.
  const char* starter() const;
  bool by_srun() const;
  int rank() const { return rank_; }
  int size() const { return size_; }
  // 0, 1, … size() − 1: the group of all.
  std::vector<int> all_ranks() const;
  int local_rank() const { return local_rank_; }
  // A number that the ranks of one node share: the lowest of their ranks.
  int node_of(int world_rank) const { return node_of_[static_cast<size_t>(world_rank)]; }
  // The largest count that divides the ranks of each node.
  int ranks_of_every_node() const;
  const std::string& host() const { return host_of(rank_); }
  const std::string& host_of(int world_rank) const { return hosts_[static_cast<size_t>(world_rank)]; }
  const std::vector<std::string>& hosts() const { return hosts_; }  // of all ranks
  // For make_backend.
  DevicePlace place() const { return {threads_, local_rank_, local_size_, host(), products_}; }
  // Of the places that are asked for from now on.
  void set_products(ProductFile products) { products_ = std::move(products); }

  // OpenMP threads of this rank, already set: its share of the cores, or what OMP_NUM_THREADS or use_threads says; fewer
  // where OpenMP gives fewer (OMP_THREAD_LIMIT).
  int threads() const { return threads_; }
  // Before a backend or a communicator is made; on all ranks alike.
  void use_threads(int threads);
  const WaitPolicy& wait_policy() const { return policy_; }
  Whereabouts* whereabouts() const { return whereabouts_.get(); }

  // From now on a rank that has waited so long for another, in what is limited, ends the job and says where that one is;
  // 0: never. A rank that is at work for longer is late as much as one that is stopped.
  void set_timeout(double seconds, TimeLimited limited);
  // What this rank does from now on, for who waits for it.
  void begin(Activity activity, int64_t step = 0) const;
  // Waits for all ranks.
  void meet() const;

  // Where stdin begins and stdout ends: mpirun's own, for its ranks; of srun's rank 0 its own, where srun has given it a
  // terminal (--pty). Columns are 0 when that is no terminal.
  bool stdout_is_terminal() const { return stdout_columns() > 0; }
  bool stdin_is_terminal() const;
  int stdout_columns() const;

  // Runs a command's body and returns its exit status. An exception is printed once for all ranks that have the same
  // one, "llama_tp: <message>", with the ranks' numbers and hosts when others did not fail; the status is 1, and ranks
  // that wait for the failed one stop within a second. With MPI an error does not return. Collective; once.
  int guard(const std::function<int()>& body);

 private:
  struct Outcome;
  void start_mpi();
  [[noreturn]] void end_at_start(const std::string& message) const;
  int columns(int descriptor) const;
  // Of cores that so many ranks of this node share.
  void divide_cores(int sharing_ranks, int cores);
  void end_together(const Outcome& outcome);
  void look_at_board();
  // "rank 3 of 8 on node1: "; "ranks 2, 3 of 8 on node1, node2: "; nothing when all ranks say the same.
  std::string who(const std::vector<int>& ranks) const;
  // Of those known to have failed, with this message or any.
  std::vector<int> failed_ranks(std::optional<uint64_t> with_message = {}) const;

  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1, threads_ = 1, launcher_ = 0;
  int sharing_ranks_ = 1, cores_ = 1;
  std::vector<std::string> hosts_;  // of all ranks
  ProductFile products_;
  std::vector<int> node_of_{0};
  std::vector<int> node_ranks_{0};  // world ranks of this node
  WaitPolicy policy_;
  // All ranks, twice: a rank that fails gathers endings while others still wait for it in meet, and MPI would take the
  // one for the other in one group.
  std::unique_ptr<MpiGroup> world_, of_endings_;
  std::unique_ptr<FailureBoard> board_;
  std::unique_ptr<Whereabouts> whereabouts_;
  std::unique_ptr<MeetingPoint> job_;
  // What end_together gathers: 0 for a rank that is fine, else how it ended. Members, since a gathering that is given
  // up still uses them.
  std::vector<uint64_t> endings_;
  uint64_t ending_ = 0;
};

}  // namespace llama_tp
