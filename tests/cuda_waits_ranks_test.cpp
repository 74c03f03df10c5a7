// A wait for NCCL or the device is left when another rank does not come, with that rank's name. CUDA and NCCL are doubled.
// For two ranks or more.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>

#include "backend/cuda/watched_wait.h"
#include "backend/recorder.h"
#include "cuda/ranks.h"
#include "parallel/nccl_communicator.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

class CudaWaits : public CudaRanks {
 protected:
  // From now on the device waits in those that it was asked for.
  void stand_in_collectives() {
    cuda_double().never_ends = true;
    cuda_double().comes_to_its_end = backend_->device()->compute;
  }
};

// Whatever the ranks say when a wait in what they do ends because it takes longer than a second. Of all of them only one
// speaks.
std::string said_of_waiting(HostGroup& world, const std::function<void()>& doing) {
  world.barrier();
  ranks().whereabouts()->set_timeout(std::chrono::seconds(1), TimeLimited::everything);
  std::string said;
  try {
    doing();
  } catch (const Stopped&) {
  } catch (const Error& error) {
    said = error.what();
  }
  ranks().whereabouts()->set_timeout(std::chrono::seconds(0), TimeLimited::everything);
  std::string all;
  for (const std::string& of_rank : world.all_gather(said)) all += of_rank;
  return all;
}

void be_elsewhere() { sleep(3); }

// Ends what the device does after so many seconds.
struct EndsLate : Watcher {
  EndsLate(DeviceHandle& looked_at, int seconds)
      : device(looked_at), end(std::chrono::steady_clock::now() + std::chrono::seconds(seconds)) {
    device.watchers.push_back(this);
  }
  ~EndsLate() override { device.watchers.pop_back(); }
  void look(bool, std::chrono::duration<double>) override {
    if (std::chrono::steady_clock::now() > end) cuda_double().never_ends = false;
  }
  DeviceHandle& device;
  std::chrono::steady_clock::time_point end;
};

// A group with the name of one that the mesh has not, whose ranks NCCL never connects.
void make_a_group(Backend& backend) {
  std::atomic_ref(nccl_double().never_connects) = true;
  make_nccl_communicator(ranks(), ranks().all_ranks(), GroupName::data, *backend.device());
}

TEST_F(CudaWaits, AGroupToWhichARankDoesNotConnectIsLeftWithItsName) {
  const int late = ranks().size() - 1;
  const std::string said = said_of_waiting(mesh_->world(), [&] {
    if (ranks().rank() != late) return make_a_group(*backend_);
    ncclUniqueId id{};
    MpiGroup(ranks().all_ranks(), ranks().wait_policy())
        .broadcast(&id, sizeof id, 0);  // where it would be missed before
    be_elsewhere();
  });
  std::atomic_ref(nccl_double().never_connects) = false;
  EXPECT_TRUE(
      said.starts_with(text("waited 1 s in setup (group data) for rank ", late, " on ", ranks().host(), " (process ",
                            mesh_->world().broadcast(std::to_string(getpid()), late), "), starting after ")))
      << said;
  EXPECT_EQ(said.find("waited", 1), std::string::npos) << said;
}

TEST_F(CudaWaits, AGroupThatNcclNeverConnectsIsLeftThoughAllHaveCome) {
  const std::string said = said_of_waiting(mesh_->world(), [&] { make_a_group(*backend_); });
  std::atomic_ref(nccl_double().never_connects) = false;
  EXPECT_EQ(said,
            "waited 1 s in setup (group data), to which all ranks have come; see with NCCL_DEBUG=INFO what NCCL does, "
            "or raise --timeout");
}

// NCCL's own call would wait for it in connecting, without end: in the first collective, and in one of another size than
// before.
TEST_F(CudaWaits, WhereNcclMayConnectAHostDoesNotCallItBeforeAllHaveCome) {
  const int late = ranks().size() - 1;
  for (const int64_t first : {4, 8}) {
    const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, *backend_);
    const std::string said = said_of_waiting(mesh_->world(), [&] {
      if (first == 8) mesh.groups().tensor.all_reduce(value_).wait();
      if (ranks().rank() == late) return be_elsewhere();
      mesh.groups().tensor.all_reduce(first == 8 ? pair_ : value_).wait();
    });
    EXPECT_TRUE(said.starts_with(text("waited 1 s in all_reduce (number ", first / 4, " of group tensor, ", first,
                                      " bytes) for rank ", late, " on ")))
        << said;
  }
}

TEST_F(CudaWaits, WhereNcclHasConnectedAHostGoesOnThoughOthersHaveNotCome) {
  const int late = ranks().size() - 1;
  for (const Tensor& tensor : {value_, pair_}) mesh_->groups().tensor.all_reduce(tensor).wait();
  EXPECT_EQ(said_of_waiting(mesh_->world(),
                            [&] {
                              if (ranks().rank() == late) be_elsewhere();
                              mesh_->groups().tensor.all_reduce(value_).wait();
                              mesh_->groups().tensor.all_reduce(pair_).wait();
                            }),
            "");
}

TEST_F(CudaWaits, AWaitForTheDeviceBehindARankThatDoesNotComeNamesIt) {
  const int late = ranks().size() - 1;
  const std::string all = said_of_waiting(mesh_->world(), [&] {
    mesh_->groups().tensor.all_reduce(value_).wait();
    if (ranks().rank() == late) return be_elsewhere();
    mesh_->groups().tensor.all_reduce(value_).wait();
    stand_in_collectives();
    backend_->synchronize();
  });
  cuda_double().never_ends = false;
  EXPECT_EQ(all, text("waited 1 s in all_reduce (number 2 of group tensor, 4 bytes) for rank ", late, " on ",
                      ranks().host(), " (process ", mesh_->world().broadcast(std::to_string(getpid()), late),
                      "), starting after all_reduce (number 1 of group tensor, 4 bytes); see whether it is stopped, "
                      "swapped out or waits for a disk, or raise --timeout"));
}

// Hosts ask for whole steps ahead: where one device hangs or crawls, all have asked for the same.
TEST_F(CudaWaits, ARankWhoseDeviceDoesNotComeIsNamedThoughItHasAskedForAsMuch) {
  const int late = ranks().size() - 1;
  const std::string all = said_of_waiting(mesh_->world(), [&] {
    mesh_->groups().tensor.all_reduce(value_).wait();
    if (ranks().rank() != late) {
      stand_in_collectives();
      return backend_->synchronize();
    }
    const EndsLate ends(*backend_->device(), 6);  // others have waited for a second by then, on a busy machine, too
    cuda_double().never_ends = true;
    backend_->synchronize();
  });
  cuda_double().never_ends = false;
  EXPECT_EQ(all,
            text("waited 1 s in all_reduce (number 1 of group tensor, 4 bytes) for rank ", late, " on ", ranks().host(),
                 " (process ", mesh_->world().broadcast(std::to_string(getpid()), late),
                 "), whose device still computes, with all_reduce (number 1 of group tensor, 4 bytes) asked for "
                 "last, starting; see whether it is stopped, swapped out or waits for a disk, or raise --timeout"));
}

// A step of a long context computes for longer than any rank should be waited for, ahead of a collective or behind one.
TEST_F(CudaWaits, ADeviceMayComputeForLongerThanTheTimeout) {
  for (const bool ahead : {true, false}) {
    const std::string said = said_of_waiting(mesh_->world(), [&] {
      mesh_->groups().tensor.all_reduce(value_).wait();
      if (!ahead) backend_->synchronize();
      const EndsLate late(*backend_->device(), 2);
      cuda_double().never_ends = true;
      backend_->synchronize();
    });
    EXPECT_EQ(said, "") << ahead;
  }
}

// The host may be ahead of the device by many collectives; it stands in the first.
TEST_F(CudaWaits, TheCollectiveInWhichTheDeviceStandsNeedNotBeTheLast) {
  const int late = ranks().size() - 1;
  const std::string said = said_of_waiting(mesh_->world(), [&] {
    if (ranks().rank() == late) return be_elsewhere();
    for (int i = 0; i < 10; i++) mesh_->groups().tensor.all_reduce(value_).wait();
    stand_in_collectives();
    while (true) mesh_->groups().tensor.all_reduce(value_).wait();
  });
  cuda_double().never_ends = false;
  EXPECT_TRUE(said.starts_with("waited 1 s in all_reduce (number ")) << said;
  EXPECT_NE(said.find(text(" for rank ", late, " on ")), std::string::npos) << said;
}

// What is recorded has no events that may be asked.
TEST_F(CudaWaits, AWaitForWhatWasRecordedNamesTheRankThatDoesNotCome) {
  const int late = ranks().size() - 1;
  const std::string said = said_of_waiting(mesh_->world(), [&] {
    for (int token = 0; token < 3; token++)
      backend_->recorder()->repeat({1}, [&] { mesh_->groups().tensor.all_reduce(value_).wait(); });
    if (ranks().rank() == late) return be_elsewhere();
    mesh_->groups().tensor.all_reduce(value_).wait();
    cuda_double().never_ends = true;
    backend_->synchronize();
  });
  cuda_double().never_ends = false;
  backend_->recorder()->forget();
  EXPECT_TRUE(said.starts_with("waited 1 s in all_reduce (number ")) << said;
  EXPECT_NE(said.find(text(" for rank ", late, " on ")), std::string::npos) << said;
}

// Collectives that are slow, one after the other, are not one that does not end.
TEST(WatchedWait, CountsTheTimeInOneCollective) {
  struct Sees : Watcher {
    explicit Sees(std::vector<CollectiveProgress> answers) : all(std::move(answers)) {}
    CollectiveProgress progress() override { return all[std::min(asked++, all.size() - 1)]; }
    void look(bool, std::chrono::duration<double> stood) override { counted.push_back(stood.count() > 0); }
    std::vector<CollectiveProgress> all;
    size_t asked = 0;
    std::vector<bool> counted;
  };
  const auto wait_with = [](Watcher& one, Watcher& other, size_t looks, const std::vector<bool>& counted) {
    wait_until({&one, &other}, "this", [&] { return counted.size() < looks ? cudaErrorNotReady : cudaSuccess; });
  };
  Sees one({{false, 0}, {true, 0}, {true, 0}, {true, 1}, {true, 1}, {false, 2}, {true, 2}}),
      none({CollectiveProgress{}});
  wait_with(one, none, 7, one.counted);
  EXPECT_EQ(one.counted, (std::vector<bool>{false, false, true, false, true, false, false}));

  Sees stands({CollectiveProgress{true, 0}}), goes_on({{false, 0}, {false, 1}, {false, 1}});
  wait_with(stands, goes_on, 3, stands.counted);
  EXPECT_EQ(stands.counted, (std::vector<bool>{false, false, true}));
}

}  // namespace
}  // namespace llama_tp
