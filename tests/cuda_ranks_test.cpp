// Ranks with a CUDA device each, where CUDA and NCCL are doubled (cuda/double.h, cuda/nccl_double.h): which devices they
// take, what they ask NCCL for and when, and what they say when it fails.
// For two ranks or more.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <set>

#include "backend/cuda/tuned_products.h"
#include "backend/recorder.h"
#include "cuda/nccl_by_mpi.h"
#include "cuda/ranks.h"
#include "parallel/nccl_communicator.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

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
      mesh.groups().fsdp.all_reduce(value_).wait();
      mesh.groups().tensor.all_reduce(value_).wait();
      EXPECT_EQ(streams.size(), version < 22600 || mesh.groups().fsdp.size() == 1 ? 1u : 2u);
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

}  // namespace
}  // namespace llama_tp
