// Where every rank of the node is: in a collective, or doing something between two of them. Each has a page in shared
// memory and writes there as it goes, a few stores a collective; who has waited too long (patience.h) reads the pages
// and says for whom.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "parallel/mpi_group.h"
#include "parallel/shared_memory.h"

namespace llama_tp {

// A rank is in at most one group of a name at a time. job: all ranks, as they start and end; copy: those that hold the
// weights once.
enum class GroupName : uint8_t { other, job, world, copy, tensor, kv_replicas, fsdp, data, count_ };
enum class Meeting : uint8_t { setup, all_reduce, all_gather, reduce_scatter, broadcast, barrier, gather, count_ };
// What a rank does as a whole.
enum class Activity : uint8_t {
  starting,
  reading_data,
  loading_weights,
  training,
  evaluating,
  saving,
  generating,
  awaiting_input,
  measuring,
  count_
};

// What a limit of waits holds for: all that ranks do, or all but activities whose time depends on the sizes of files: one
// rank may then read, load or save for long while the others, in good order, wait. Never for awaiting input: a person
// may think for as long as they like.
enum class TimeLimited : uint8_t { everything, all_but_files };

class MeetingPoint;

class Whereabouts {
 public:
  // Collective over the ranks of one node, whose numbers in the world are node_ranks. hosts: of all ranks of the world.
  Whereabouts(MpiGroup& node, std::vector<int> node_ranks, std::vector<std::string> hosts);

  // 0: a wait may last for ever. Else what this rank has reported before keeps nobody from reporting again.
  void set_timeout(std::chrono::duration<double> timeout, TimeLimited limited);
  bool is_overdue(std::chrono::duration<double> waited) const;

  // step: of a training run, 0 elsewhere.
  void begin(Activity activity, int64_t step) const;

  // Shows that this rank lives, while it waits.
  void beat() const;
  // For a rank that has waited too long: throws an Error that names the ranks that did not come to where this one is,
  // and where they are. The first of the node's ranks does so, for the others it throws Stopped.
  [[noreturn]] void report() const;

 private:
  friend class MeetingPoint;
  struct Page;
  Page& page(size_t local_rank) const;
  enum class Waits : uint8_t { no, for_ranks, for_own_device };
  std::vector<Waits> find_waits() const;
  std::vector<size_t> find_missing(const std::vector<Waits>& waits) const;
  std::string place_of(size_t local_rank, Waits waits) const;

  SharedMemory memory_;
  std::vector<int> node_ranks_;
  std::vector<std::string> hosts_;
  size_t local_rank_;
  std::chrono::duration<double> timeout_{0};
  TimeLimited limited_ = TimeLimited::everything;
  const MeetingPoint* here_ = nullptr;  // where this rank is, in a collective
};

// A group of ranks as the pages know it: its collectives are counted.
class MeetingPoint {
 public:
  // whereabouts: null where nobody looks.
  MeetingPoint(Whereabouts* whereabouts, GroupName name, std::vector<int> world_ranks)
      : whereabouts_(whereabouts), name_(name), world_ranks_(std::move(world_ranks)) {}

  // The time inside of a collective. bytes: of its payload, the same on every rank; 0 where they do not know it.
  class Visit {
   public:
    Visit(MeetingPoint& point, Meeting meeting, int64_t bytes);
    ~Visit();
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    Whereabouts* whereabouts_;
  };

  // For a rank that waits for its device, which stands, and has so long, in one of the collectives that were asked for
  // before, or computes: shows that it lives, and throws as Whereabouts::report when it is overdue. It is taken to wait in
  // the one that was asked for last, if that was one of this group.
  void look_from_device(bool stands, std::chrono::duration<double> stood) const;

 private:
  friend class Whereabouts;
  Whereabouts* whereabouts_;
  GroupName name_;
  std::vector<int> world_ranks_;
  int64_t number_ = 0;  // of collectives so far
};

}  // namespace llama_tp
