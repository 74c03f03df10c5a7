#include "parallel/mpi_host_group.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "parallel/mpi_group.h"

namespace llama_tp {

namespace {

class MpiHostGroup : public HostGroup {
 public:
  MpiHostGroup(MpiGroup group, MeetingPoint point) : group_(std::move(group)), point_(std::move(point)) {}

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  void barrier() override {
    const MeetingPoint::Visit visit(point_, Meeting::barrier, 0);
    group_.barrier();
  }

  std::string broadcast(const std::string& value, int root) override {
    const MeetingPoint::Visit visit(point_, Meeting::broadcast, 0);
    auto length = static_cast<int64_t>(value.size());
    group_.broadcast(&length, sizeof length, root);
    std::string out = rank() == root ? value : std::string(static_cast<size_t>(length), '\0');
    group_.broadcast(out.data(), length, root);
    return out;
  }

  void broadcast(std::span<char> bytes, int root) override {
    const auto count = static_cast<int64_t>(bytes.size());
    const MeetingPoint::Visit visit(point_, Meeting::broadcast, count);
    group_.broadcast(bytes.data(), count, root);
  }

  void all_gather(std::span<const char> own, std::span<char> all) override {
    const MeetingPoint::Visit visit(point_, Meeting::all_gather, static_cast<int64_t>(all.size()));
    group_.all_gather(own.data(), all.data(), static_cast<int64_t>(own.size()));
  }

  std::vector<std::string> all_gather(const std::string& value) override {
    std::vector<std::string> values;
    for (int root = 0; root < size(); root++) values.push_back(broadcast(value, root));
    return values;
  }

  void gather(std::span<const char> piece, std::span<const int64_t> sizes, std::span<const int64_t> places,
              std::span<char> whole, int root) override {
    require(static_cast<int64_t>(piece.size()) == sizes[static_cast<size_t>(rank())], "gather: a piece of ",
            piece.size(), " bytes, announced as ", sizes[static_cast<size_t>(rank())]);
    const MeetingPoint::Visit visit(point_, Meeting::gather, std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
    group_.gather(piece.data(), sizes, places, whole.data(), root);
  }

 private:
  MpiGroup group_;
  MeetingPoint point_;
};

}  // namespace

std::unique_ptr<HostGroup> make_host_group(const Launch& launch, const std::vector<int>& world_ranks, GroupName name) {
  if (world_ranks.size() == 1) return make_lone_host_group();
  MeetingPoint point(launch.whereabouts(), name, world_ranks);
  const MeetingPoint::Visit visit(point, Meeting::setup, 0);
  return std::make_unique<MpiHostGroup>(MpiGroup(world_ranks, launch.wait_policy()), point);
}

std::unique_ptr<HostGroup> make_host_group(const Launch& launch) {
  launch.meet();  // making a group waits inside of MPI, where nobody sees a rank that does not come
  return make_host_group(launch, launch.all_ranks(), GroupName::world);
}

}  // namespace llama_tp
