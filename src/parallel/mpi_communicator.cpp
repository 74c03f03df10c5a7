#include "parallel/mpi_communicator.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "parallel/local_communicator.h"
#include "parallel/rank_order_sum.h"
#include "parallel/shared_window.h"

namespace llama_tp {

namespace {

class NodeCommunicator : public Communicator {
 public:
  NodeCommunicator(MpiGroup group, MeetingPoint point, const Launch& launch)
      : Communicator(group.rank(), group.size()),
        point_(std::move(point)),
        window_(group, launch.threads(), launch.wait_policy()) {}

 protected:
  Pending run_all_reduce(const Tensor& x) override {
    const MeetingPoint::Visit visit(point_, Meeting::all_reduce, x.bytes());
    window_.all_reduce(x.data, x.dtype, x.elements());
    return {};
  }
  Pending run_all_gather(const Tensor& part, const Tensor& whole) override {
    const MeetingPoint::Visit visit(point_, Meeting::all_gather, whole.bytes());
    window_.all_gather(part.data, whole.data, part.bytes());
    return {};
  }
  Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) override {
    const MeetingPoint::Visit visit(point_, Meeting::reduce_scatter, whole.bytes());
    window_.reduce_scatter(whole.data, part.data, part.dtype, part.elements());
    return {};
  }
  Pending run_broadcast(const Tensor& x, int root) override {
    const MeetingPoint::Visit visit(point_, Meeting::broadcast, x.bytes());
    window_.broadcast(x.data, x.bytes(), root);
    return {};
  }

 private:
  MeetingPoint point_;
  SharedWindow window_;
};

// Ranks of several nodes. A chunk at a time, every rank receives its piece from all, sums it in rank order, and for an
// all-reduce the sums are gathered.
class NetworkCommunicator : public Communicator {
 public:
  NetworkCommunicator(MpiGroup group, MeetingPoint point)
      : Communicator(group.rank(), group.size()),
        point_(std::move(point)),
        group_(std::move(group)),
        piece_bytes_(buffer_bytes / size() / 64 * 64),
        sent_(static_cast<size_t>(piece_bytes_ * size())),
        received_(sent_.size()),
        inputs_(static_cast<size_t>(size())) {}

 protected:
  Pending run_all_reduce(const Tensor& x) override {
    const MeetingPoint::Visit visit(point_, Meeting::all_reduce, x.bytes());
    const int64_t element = size_of(x.dtype), chunk = piece_bytes_ / element * size();
    for (int64_t done = 0; done < x.elements(); done += chunk) {
      const int64_t now = std::min(chunk, x.elements() - done), piece = (now + size() - 1) / size();
      char* place = x.as<char>() + done * element;
      // Pieces lie one after another; what pads the last one is summed and dropped.
      std::memcpy(sent_.data(), place, static_cast<size_t>(now * element));
      exchange_and_sum(x.dtype, piece, sent_.data());
      group_.all_gather(sent_.data(), received_.data(), piece * element);
      std::memcpy(place, received_.data(), static_cast<size_t>(now * element));
    }
    return {};
  }

  Pending run_all_gather(const Tensor& part, const Tensor& whole) override {
    const MeetingPoint::Visit visit(point_, Meeting::all_gather, whole.bytes());
    for (int64_t done = 0; done < part.bytes(); done += piece_bytes_) {
      const int64_t now = std::min(piece_bytes_, part.bytes() - done);
      std::memcpy(sent_.data(), part.as<char>() + done, static_cast<size_t>(now));
      group_.all_gather(sent_.data(), received_.data(), now);
      for (int r = 0; r < size(); r++)
        std::memcpy(whole.as<char>() + r * part.bytes() + done, received_.data() + r * now, static_cast<size_t>(now));
    }
    return {};
  }

  Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) override {
    const MeetingPoint::Visit visit(point_, Meeting::reduce_scatter, whole.bytes());
    const int64_t element = size_of(part.dtype), chunk = piece_bytes_ / element;
    for (int64_t done = 0; done < part.elements(); done += chunk) {
      const int64_t now = std::min(chunk, part.elements() - done);
      for (int r = 0; r < size(); r++)
        std::memcpy(sent_.data() + r * now * element, whole.as<char>() + (r * part.elements() + done) * element,
                    static_cast<size_t>(now * element));
      exchange_and_sum(part.dtype, now, part.as<char>() + done * element);
    }
    return {};
  }

  Pending run_broadcast(const Tensor& x, int root) override {
    const MeetingPoint::Visit visit(point_, Meeting::broadcast, x.bytes());
    group_.broadcast(x.data, x.bytes(), root);
    return {};
  }

 private:
  static constexpr int64_t buffer_bytes = int64_t{4} << 20;

  // sum = Σ over ranks of the piece that each has for this rank in sent_.
  void exchange_and_sum(DType dtype, int64_t piece, void* sum) {
    const int64_t bytes = piece * size_of(dtype);
    group_.all_to_all(sent_.data(), received_.data(), bytes);
    for (int r = 0; r < size(); r++) inputs_[static_cast<size_t>(r)] = received_.data() + r * bytes;
    sum_in_rank_order(inputs_, dtype, piece, sum);
  }

  MeetingPoint point_;
  MpiGroup group_;
  int64_t piece_bytes_;
  std::vector<char> sent_, received_;  // a piece for, and of, every rank
  std::vector<const void*> inputs_;
};

}  // namespace

std::unique_ptr<Communicator> make_communicator(const Launch& launch, const std::vector<int>& world_ranks,
                                                GroupName name, int pretended_ranks_per_node) {
  require(std::find(world_ranks.begin(), world_ranks.end(), launch.rank()) != world_ranks.end(), "rank ", launch.rank(),
          " makes a communicator that it is not part of");
  const auto node_of = [&](int rank) {
    return pretended_ranks_per_node > 0 ? rank / pretended_ranks_per_node : launch.node_of(rank);
  };
  for (const int rank : world_ranks)
    require(rank >= 0 && rank < launch.size(), "a communicator names rank ", rank, " of ", launch.size(),
            "; start as many ranks as the mesh has: mpirun -np N");
  if (world_ranks.size() == 1) return std::make_unique<LoneCommunicator>();

  MeetingPoint point(launch.whereabouts(), name, world_ranks);
  const MeetingPoint::Visit visit(point, Meeting::setup, 0);
  MpiGroup group(world_ranks, launch.wait_policy());
  const bool one_node = std::all_of(world_ranks.begin(), world_ranks.end(),
                                    [&](int rank) { return node_of(rank) == node_of(world_ranks.front()); });
  if (one_node) return std::make_unique<NodeCommunicator>(std::move(group), point, launch);
  return std::make_unique<NetworkCommunicator>(std::move(group), point);
}

}  // namespace llama_tp
