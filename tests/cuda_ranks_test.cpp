// Ranks with a CUDA device each, where CUDA and NCCL are doubled (cuda/double.h, cuda/nccl_double.h): which devices they
// take, what they ask NCCL for and when, what they say when it fails, and that a wait for NCCL or the device is left when
// another rank does not come.
// For two ranks or more.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <set>

#include "backend/cuda/tuned_products.h"
#include "backend/cuda/watched_wait.h"
#include "backend/recorder.h"
#include "cuda/double.h"
#include "cuda/nccl_by_mpi.h"
#include "cuda/nccl_double.h"
#include "parallel/mesh.h"
#include "parallel/nccl_communicator.h"
#include "support/error_of.h"
#include "support/ranks.h"

namespace llama_tp {
namespace {

NcclDouble& nccl_double() {
  static NcclDouble* const one = [] {
    const std::string beside = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    void* const library = dlopen((beside + "/cuda/libnccl.so.2").c_str(), RTLD_NOW);
    require(library != nullptr, dlerror());
    return static_cast<NcclDouble*>(dlsym(library, "nccl_double"));
  }();
  return *one;
}

// All ranks as one tensor group, with a value on each one's device.
class CudaRanks : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("SLURM_JOB_ID");
    nccl_double() = {};
    cuda_double() = {};
    cuda_double().devices = ranks().size();
    backend_ = make_backend("cuda", ranks().place());
    mesh_ = std::make_unique<Mesh>(ranks(), MeshShape{1, 1, ranks().size()}, 1, *backend_);
    arena_.reserve(*backend_, 2 * Arena::alignment);
    value_ = arena_.push(Category::data, {1}, DType::f32);
    pair_ = arena_.push(Category::data, {2}, DType::f32);
  }
  void TearDown() override { cuda_double() = {}; }

  // From now on the device waits in those that it was asked for.
  void stand_in_collectives() {
    cuda_double().never_ends = true;
    cuda_double().comes_to_its_end = backend_->device()->compute;
  }

  Ledger ledger_;
  std::unique_ptr<Backend> backend_;
  Arena arena_{"memory", ledger_};
  std::unique_ptr<Mesh> mesh_;
  Tensor value_, pair_;
};

TEST_F(CudaRanks, TooFewDevicesAreRefusedWithTheirHost) {
  cuda_double().devices = 1;
  const auto backend = make_backend("cuda", ranks().place());
  const std::string said = error_of([&] { Mesh(ranks(), {1, 1, ranks().size()}, 1, *backend); });
  EXPECT_EQ(
      said,
      text(ranks().host(), " has 1 CUDA device for its ", ranks().size(),
           " ranks: ranks 0 and 1 meet on one; start a rank a device, take --backend cpu, or let them share it with "
           "LLAMA_TP_SHARE_DEVICE=1, which is slow"));
}

// As with Slurm's --gpus-per-task or --gpu-bind: to each the first that it sees has the number 0.
TEST_F(CudaRanks, EachMaySeeDevicesOfItsOwnAlone) {
  for (const int each : {1, 2}) {
    cuda_double().devices = each;
    cuda_double().hidden = each * ranks().local_rank();
    const auto backend = make_backend("cuda", ranks().place());
    const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, *backend);
    EXPECT_FALSE(backend->device()->shared);
  }
}

TEST_F(CudaRanks, OfASlurmJobsTooFewDevicesAllAreToBeSeen) {
  cuda_double().devices = 1;
  const auto backend = make_backend("cuda", ranks().place());
  setenv("SLURM_JOB_ID", "7", 1);
  const std::string said = error_of([&] { Mesh(ranks(), {1, 1, ranks().size()}, 1, *backend); });
  unsetenv("SLURM_JOB_ID");
  EXPECT_NE(said.find("; start a rank a device that they see (--gpus-per-node, --gpu-bind=none), take --backend cpu"),
            std::string::npos)
      << said;
}

// Else the same sum could be other bits on ranks that are to hold the same.
TEST_F(CudaRanks, RanksWithDifferentFilesOfProductsAreRefused) {
  const auto mesh_with = [](int products) {
    TunedProducts tuned{"tuned.json", {"Double", "8.5", "13.1.2"}, {}};
    for (int i = 1; i <= products; i++)
      tuned.products[{DType::f32, DType::f32, false, false, i, i, i, false, false}] = {{}, {1, 1, 1}};
    DevicePlace place = ranks().place();
    place.products = {"tuned.json", text_of(tuned)};
    const auto backend = make_backend("cuda", place);
    return Mesh(ranks(), {1, 1, ranks().size()}, 1, *backend).shape().ranks();
  };
  EXPECT_EQ(mesh_with(1), ranks().size());
  EXPECT_EQ(error_of([&] { mesh_with(ranks().rank() == 0 ? 1 : 2); }),
            text("rank 1 on ", ranks().host(), " has another file of --products than rank 0 on ", ranks().host(),
                 "; copy one to all hosts, or leave --products out"));
}

// Another order of forwards, or what NCCL wants on all ranks or on none.
TEST_F(CudaRanks, RanksWithOtherSwitchesAreRefused) {
  for (const std::string name : {"LLAMA_TP_TOKENS_AHEAD", "LLAMA_TP_CUDA_GRAPH"}) {
    if (ranks().rank() > 0) setenv(name.c_str(), "0", 1);
    const auto backend = make_backend("cuda", ranks().place());
    unsetenv(name.c_str());
    EXPECT_EQ(error_of([&] {
                Mesh(ranks(), {1, 1, ranks().size()}, 1, *backend);
              }),
              text("rank 1 on ", ranks().host(), " has another ", name, " than rank 0 on ", ranks().host(),
                   "; give it to all hosts (mpirun -x ", name, ")"));
  }
}

// Numbers of a rank whose sum over a few ranks is exact in every type.
double contribution(int rank, int64_t i) { return 10 * rank + static_cast<double>(i % 7); }

TEST_F(CudaRanks, NcclIsAskedForWhatACommunicatorPromises) {
  constexpr int64_t part = 5;
  const int64_t size = ranks().size(), me = ranks().rank();
  MpiGroup group(ranks().all_ranks(), ranks().wait_policy());
  nccl_double().run = [&](const NcclCollective& asked) { do_by_mpi(group, asked); };
  Arena arena("tensors", ledger_);
  arena.reserve(*backend_, 8 * Arena::alignment);
  for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
    const PushScope scope(arena);
    const Tensor one = arena.push(Category::data, {part}, type),
                 whole = arena.push(Category::data, {size * part}, type);
    const auto fill = [&](const Tensor& tensor) {
      std::vector<char> values(static_cast<size_t>(tensor.bytes()));
      for (int64_t i = 0; i < tensor.elements(); i++)
        set_element(values.data(), type, static_cast<size_t>(i), contribution(ranks().rank(), i));
      backend_->upload(values.data(), tensor);
    };
    const auto expect = [&](Collective collective, const Tensor& tensor,
                            const std::function<double(int64_t)>& expected) {
      std::vector<char> values(static_cast<size_t>(tensor.bytes()));
      backend_->download(tensor, values.data());
      for (int64_t i = 0; i < tensor.elements(); i++)
        EXPECT_EQ(element(values.data(), type, static_cast<size_t>(i)), expected(i))
            << name_of(collective) << " of " << name_of(type) << ", element " << i;
    };
    const auto sum = [&](int64_t i) {
      double all = 0;
      for (int rank = 0; rank < size; rank++) all += contribution(rank, i);
      return all;
    };
    fill(one);
    mesh_->groups().tensor.all_gather(one, whole).wait();
    expect(Collective::all_gather, whole,
           [&](int64_t i) { return contribution(static_cast<int>(i / part), i % part); });
    mesh_->groups().tensor.all_reduce(one).wait();
    expect(Collective::all_reduce, one, sum);
    fill(one), fill(whole);
    mesh_->groups().tensor.reduce_scatter(whole, one).wait();
    expect(Collective::reduce_scatter, one, [&](int64_t i) { return sum(me * part + i); });
    mesh_->groups().tensor.broadcast(whole, 1).wait();
    expect(Collective::broadcast, whole, [&](int64_t i) { return contribution(1, i); });
  }
}

// It begins behind what the compute stream was asked for before, and what the compute stream is asked for behind the wait
// begins when it has ended.
TEST_F(CudaRanks, ACollectiveHasItsPlaceAmongOperations) {
  using What = StreamCall::What;
  nccl_double().run = [](const NcclCollective& asked) {
    cuda_double().stream_calls.push_back({What::collective, nullptr, asked.stream});
  };
  Communicator& group = mesh_->groups().tensor;
  const Tensor part = value_, whole{value_.data, DType::f32, {ranks().size()}};
  const void* const compute = backend_->device()->compute;
  for (const std::function<Pending()>& start : std::vector<std::function<Pending()>>{
           [&] { return group.all_reduce(part); }, [&] { return group.all_gather(part, whole); },
           [&] { return group.reduce_scatter(whole, part); }, [&] { return group.broadcast(part, 0); }}) {
    std::vector<StreamCall>& calls = cuda_double().stream_calls;
    calls.clear();
    Pending pending = start();
    ASSERT_EQ(calls.size(), 4u);
    const void *const called = calls[0].event, *const done = calls[3].event, *const own = calls[2].stream;
    EXPECT_NE(own, compute);
    EXPECT_NE(done, called);
    pending.wait();
    EXPECT_EQ(calls, (std::vector<StreamCall>{{What::record, called, compute},
                                              {What::wait, called, own},
                                              {What::collective, nullptr, own},
                                              {What::record, done, own},
                                              {What::wait, done, compute}}));
  }
}

TEST_F(CudaRanks, NcclsOwnWordsArePassedOn) {
  nccl_double().result = ncclSystemError;
  EXPECT_EQ(error_of([&] { mesh_->groups().tensor.all_reduce(value_).wait(); }),
            text("nccl: ncclAllReduce of ", ranks().size(), " ranks on cuda device ", ranks().local_rank(),
                 " (Double): what NCCL says (and where); NCCL_DEBUG=INFO tells more"));
  nccl_double().last_error = "Error while creating shared memory segment /dev/shm/nccl-1 (size 34210176)";
  const std::string full = error_of([&] { mesh_->groups().tensor.all_reduce(value_).wait(); });
  EXPECT_NE(
      full.find("(size 34210176)); if /dev/shm is full, make it larger (docker run --shm-size=1g): it needs 33 MiB "
                "for each group of each rank; NCCL_DEBUG=INFO tells more"),
      std::string::npos)
      << full;
  nccl_double() = {.state = ncclRemoteError};
  mesh_->groups().tensor.all_reduce(value_).wait();
  cuda_double().never_ends = true;
  const std::string later = error_of([&] { backend_->synchronize(); });
  EXPECT_TRUE(later.starts_with(text("nccl: a collective of ", ranks().size(), " ranks on cuda device "))) << later;
}

// Those of several groups could wait for each other crosswise: from 2.26 on NCCL sees to their order, else a stream does.
TEST_F(CudaRanks, CollectivesOfAllGroupsShareAStreamWhereNcclDoesNotStartThemInOneOrder) {
  std::set<cudaStream_t> streams;
  nccl_double().run = [&](const NcclCollective& asked) { streams.insert(asked.stream); };
  const MeshShape data_and_model = {1, ranks().size() / 2, 2};
  for (const int version : {22505, 22600}) {
    nccl_double().version = version;
    streams.clear();
    for (int times = 0; times < 2; times++) {  // the stream is there again for the groups of a second mesh
      const Mesh mesh(ranks(), data_and_model, 1, *backend_);
      mesh.groups().tensor.all_reduce(value_).wait();
      mesh.groups().shards.all_reduce(value_).wait();
      mesh.groups().tensor.all_reduce(value_).wait();
      EXPECT_EQ(streams.size(), version < 22600 || mesh.groups().shards.size() == 1 ? 1u : 2u);
      streams.clear();
    }
  }
}

// Two runs sum in the same order, and no rank maps memory that another may free.
TEST_F(CudaRanks, NcclIsToldToBeRepeatableAndToMapNothing) {
  EXPECT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "0");
  EXPECT_STREQ(std::getenv("NCCL_GRAPH_REGISTER"), "0");
}

// NCCL refuses them as ranks of one host, and hosts that NVLink connects would not go by sockets.
TEST_F(CudaRanks, RanksThatShareADeviceAreToNcclHostsThatOnlySocketsConnect) {
  constexpr std::array names = {"NCCL_HOSTID", "NCCL_MNNVL_ENABLE", "LLAMA_TP_SHARE_DEVICE"};
  EXPECT_EQ(std::getenv(names[0]), nullptr);
  EXPECT_EQ(std::getenv(names[1]), nullptr);
  setenv("LLAMA_TP_SHARE_DEVICE", "1", 1);
  cuda_double().devices = 1;
  const auto backend = make_backend("cuda", ranks().place());
  const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, *backend);
  EXPECT_EQ(std::getenv(names[0]), text(ranks().host(), ".", ranks().rank()));
  EXPECT_STREQ(std::getenv(names[1]), "0");
  for (const char* name : names) unsetenv(name);
}

// To destroy it would wait for the device.
TEST_F(CudaRanks, ACommunicatorIsLeftToTheEndOfTheProcessBehindAnError) {
  try {
    const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, *backend_);
    fail("an error");
  } catch (const Error&) {
    EXPECT_EQ(nccl_double().destroyed, 0);
  }
  { const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, *backend_); }
  EXPECT_EQ(nccl_double().destroyed, 1);
}

// The thread that makes a group is another than the one that chose the device.
TEST_F(CudaRanks, AGroupIsMadeOnTheRanksDevice) {
  nccl_double().current_device = [] {
    int device = -1;
    cudaGetDevice(&device);
    return device;
  };
  const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, *backend_);
  EXPECT_EQ(nccl_double().device, ranks().local_rank());
}

TEST_F(CudaRanks, AGroupThatCannotBeMadeIsAnError) {
  nccl_double().result = ncclSystemError;
  const std::string said = error_of([&] { const Mesh mesh(ranks(), {1, 1, ranks().size()}, 1, *backend_); });
  EXPECT_EQ(said, text("nccl: ncclCommInitRank of ", ranks().size(), " ranks on cuda device ", ranks().local_rank(),
                       " (Double): what NCCL says (and where); NCCL_DEBUG=INFO tells more"));
}

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

TEST_F(CudaRanks, AGroupToWhichARankDoesNotConnectIsLeftWithItsName) {
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

TEST_F(CudaRanks, AGroupThatNcclNeverConnectsIsLeftThoughAllHaveCome) {
  const std::string said = said_of_waiting(mesh_->world(), [&] { make_a_group(*backend_); });
  std::atomic_ref(nccl_double().never_connects) = false;
  EXPECT_EQ(said,
            "waited 1 s in setup (group data), to which all ranks have come; see with NCCL_DEBUG=INFO what NCCL does, "
            "or raise --timeout");
}

// NCCL's own call would wait for it in connecting, without end: in the first collective, and in one of another size than
// before.
TEST_F(CudaRanks, WhereNcclMayConnectAHostDoesNotCallItBeforeAllHaveCome) {
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

TEST_F(CudaRanks, WhereNcclHasConnectedAHostGoesOnThoughOthersHaveNotCome) {
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

TEST_F(CudaRanks, AWaitForTheDeviceBehindARankThatDoesNotComeNamesIt) {
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
TEST_F(CudaRanks, ARankWhoseDeviceDoesNotComeIsNamedThoughItHasAskedForAsMuch) {
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
TEST_F(CudaRanks, ADeviceMayComputeForLongerThanTheTimeout) {
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
TEST_F(CudaRanks, TheCollectiveInWhichTheDeviceStandsNeedNotBeTheLast) {
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
TEST_F(CudaRanks, AWaitForWhatWasRecordedNamesTheRankThatDoesNotCome) {
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
