#include "parallel/nccl_communicator.h"

#include <nccl.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <set>
#include <string_view>
#include <thread>

#include "backend/cuda/calls.h"
#include "backend/cuda/watched_wait.h"
#include "base/shared_library.h"
#include "parallel/failure_board.h"
#include "parallel/mpi_group.h"

namespace llama_tp {

namespace {

struct NcclLibrary {
  SharedLibrary file{text("libnccl.so.", NCCL_MAJOR)};
  decltype(&ncclGetVersion) get_version = file.symbol("ncclGetVersion");
  decltype(&ncclGetUniqueId) get_unique_id = file.symbol("ncclGetUniqueId");
  decltype(&ncclCommInitRank) init_rank = file.symbol("ncclCommInitRank");
  decltype(&ncclCommDestroy) destroy = file.symbol("ncclCommDestroy");
  decltype(&ncclCommGetAsyncError) get_async_error = file.symbol("ncclCommGetAsyncError");
  decltype(&ncclGetErrorString) error_string = file.symbol("ncclGetErrorString");
  decltype(&ncclGetLastError) last_error = file.symbol("ncclGetLastError");
  decltype(&ncclAllReduce) all_reduce = file.symbol("ncclAllReduce");
  decltype(&ncclAllGather) all_gather = file.symbol("ncclAllGather");
  decltype(&ncclReduceScatter) reduce_scatter = file.symbol("ncclReduceScatter");
  decltype(&ncclBroadcast) broadcast = file.symbol("ncclBroadcast");
};

const NcclLibrary& nccl() {
  static const NcclLibrary library;
  return library;
}

// For each group of each rank that goes by sockets NCCL takes 33 MiB (its proxy's operations).
constexpr std::string_view shared_memory_mend =
    "if /dev/shm is full, make it larger (docker run --shm-size=1g): it needs 33 MiB for each group of each rank; ";

// Before NCCL is called first: it reads the environment then, where a user's own choice stays.
void set_up_nccl() {
  setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "1", 0);
  setenv("NCCL_NVLS_ENABLE", "0", 0);     // sums in the switch are not the same in every run
  setenv("NCCL_GRAPH_REGISTER", "0", 0);  // else peers map an arena until the communicator's end, behind its cudaFree
}

// NCCL refuses two ranks on one device unless it takes them for ranks of different hosts; it then uses sockets, and must
// not take these hosts for ones that NVLink connects.
void set_up_shared_device(const Launch& launch) {
  setenv("NCCL_HOSTID", text(launch.host(), ".", launch.rank()).c_str(), 0);
  setenv("NCCL_MNNVL_ENABLE", "0", 0);
}

// What is called on one stream begins in the order of the calls, whichever group's it is.
std::shared_ptr<CudaStream> stream_of_all_groups() {
  static std::weak_ptr<CudaStream> made;
  std::shared_ptr<CudaStream> stream = made.lock();
  if (stream == nullptr) made = stream = std::make_shared<CudaStream>(CudaStream::Priority::urgent);
  return stream;
}

std::shared_ptr<CudaStream> stream_of_a_group() {
  constexpr int first_that_orders = 22600;  // 2.26
  int version = 0;
  nccl().get_version(&version);
  if (version < first_that_orders) return stream_of_all_groups();
  return std::make_shared<CudaStream>(CudaStream::Priority::urgent);
}

// The front of Communicator has refused other sums.
ncclDataType_t type_of(DType dtype) {
  if (dtype == DType::f64) return ncclFloat64;
  return dtype == DType::bf16 ? ncclBfloat16 : ncclFloat32;
}

class NcclCommunicator : public Communicator, private Watcher {
 public:
  NcclCommunicator(MpiGroup group, MeetingPoint point, const WaitPolicy& policy, DeviceHandle& device)
      : Communicator(group.rank(), group.size()),
        group_(std::move(group)),
        point_(std::move(point)),
        policy_(policy),
        device_(device),
        stream_(stream_of_a_group()) {
    for (Done& done : done_) done.compute = device.compute;
    ncclUniqueId id{};
    if (rank() == 0) expect(nccl().get_unique_id(&id), "ncclGetUniqueId");
    group_.broadcast(&id, sizeof id, 0);
    connect(id);
    device_.watchers.push_back(this);
  }

  // Behind an error the process ends, and what waits on the device for other ranks with it. To destroy or abort would wait
  // for a device that may be what has failed, before this rank has said why, and other ranks would hear of it by NCCL.
  ~NcclCommunicator() override {
    std::erase(device_.watchers, static_cast<Watcher*>(this));
    if (std::uncaught_exceptions() == 0 && !someone_failed()) nccl().destroy(comm_);
  }

  // What was recorded runs again without a call, and its events may not be asked: then any wait may be one for other
  // ranks. It is short, since only forwards of a token a sequence are recorded.
  CollectiveProgress progress() override {
    if (is_recorded_) return {true, 0};
    see_what_has_ended();
    return {ended_ < called_ && done_of(ended_).called.query() == cudaSuccess, ended_};
  }

  // While the host waits for the device: another rank may have failed, or NCCL, or not come.
  void look(bool stands, std::chrono::duration<double> stood) override {
    if (someone_failed()) throw Stopped();
    ncclResult_t state = ncclSuccess;
    expect(nccl().get_async_error(comm_, &state), "ncclCommGetAsyncError");
    expect(state, "a collective");
    point_.look_from_device(stands, stood);
  }

 protected:
  Pending run_all_reduce(const Tensor& x) override {
    return start(Meeting::all_reduce, x.bytes(), "ncclAllReduce", [&](cudaStream_t stream) {
      return nccl().all_reduce(x.data, x.data, static_cast<size_t>(x.elements()), type_of(x.dtype), ncclSum, comm_,
                               stream);
    });
  }
  Pending run_all_gather(const Tensor& part, const Tensor& whole) override {
    return start(Meeting::all_gather, whole.bytes(), "ncclAllGather", [&](cudaStream_t stream) {
      return nccl().all_gather(part.data, whole.data, static_cast<size_t>(part.bytes()), ncclInt8, comm_, stream);
    });
  }
  Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) override {
    return start(Meeting::reduce_scatter, whole.bytes(), "ncclReduceScatter", [&](cudaStream_t stream) {
      return nccl().reduce_scatter(whole.data, part.data, static_cast<size_t>(part.elements()), type_of(part.dtype),
                                   ncclSum, comm_, stream);
    });
  }
  Pending run_broadcast(const Tensor& x, int root) override {
    return start(Meeting::broadcast, x.bytes(), "ncclBroadcast", [&](cudaStream_t stream) {
      return nccl().broadcast(x.data, x.data, static_cast<size_t>(x.bytes()), ncclInt8, root, comm_, stream);
    });
  }

 private:
  // A collective's beginning, where it waits for other ranks, and end. They are used in turn: of one that is used again
  // before it was waited for, the later moment of the same stream is waited for, which is too long but not wrong.
  struct Done : Pending::Work {
    CudaEvent called, event;
    cudaStream_t compute = nullptr;
    void wait() override { event.hold(compute); }
  };

  // ncclCommInitRank waits for all ranks, for ever where one does not come. So a thread of its own calls it, which is left
  // to the end of the process when the wait for it ends in an error. (NCCL can return at once itself, but then no later
  // call on the communicator need be done when it returns, nor can streams be used before it is.)
  void connect(const ncclUniqueId& id) {
    struct Connecting {
      ncclComm_t comm = nullptr;
      ncclResult_t result = ncclSuccess;
      std::atomic<bool> done{false};
    };
    const auto connecting = std::make_shared<Connecting>();
    int device = 0;
    check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    std::thread([connecting, device, id, ranks = size(), rank = rank()] {
      const bool chosen = cudaSetDevice(device) == cudaSuccess;  // of a thread
      connecting->result = chosen ? nccl().init_rank(&connecting->comm, ranks, id, rank) : ncclUnhandledCudaError;
      connecting->done.store(true, std::memory_order_release);
    }).detach();
    Patience patience(policy_);
    while (!connecting->done.load(std::memory_order_acquire)) patience.pause();
    expect(connecting->result, "ncclCommInitRank");
    comm_ = connecting->comm;
  }

  // NCCL completes a group's connections where it first needs them, in a call that returns when all ranks have come to it,
  // for ever where one does not. So ranks meet before it, in a wait that leaves. Which connections a collective needs
  // depends on its kind and, by NCCL's own estimates, on its size: what was called once has its own.
  void meet_where_nccl_may_connect(Meeting kind, int64_t bytes) {
    if (called_sizes_[static_cast<size_t>(kind)].insert(bytes).second) group_.barrier();
  }

  template <class Call>
  Pending start(Meeting kind, int64_t bytes, const char* name, const Call& call) {
    const MeetingPoint::Visit visit(point_, kind, bytes);
    meet_where_nccl_may_connect(kind, bytes);
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    check_cuda(cudaStreamIsCapturing(device_.compute, &capture), "cudaStreamIsCapturing");
    is_recorded_ = is_recorded_ || capture == cudaStreamCaptureStatusActive;
    if (!is_recorded_) make_room();
    Done& done = done_of(called_++);
    done.called.record(device_.compute);
    done.called.hold(*stream_);
    expect(call(*stream_), name);
    done.event.record(*stream_);
    return Pending(done);
  }

  Done& done_of(int64_t number) { return done_[static_cast<size_t>(number) % done_.size()]; }

  // They end in the order of their calls.
  void see_what_has_ended() {
    while (ended_ < called_ && done_of(ended_).event.query() == cudaSuccess) ended_++;
  }

  // A host that is ahead of the device by as many collectives as can be seen waits, and the device has enough to do.
  void make_room() {
    if (called_ - ended_ < std::ssize(done_)) return;
    wait_until(device_.watchers, "a collective", [this] { return done_of(ended_).event.query(); });
    see_what_has_ended();
  }

  void expect(ncclResult_t result, const char* what) const {
    if (result == ncclSuccess) return;
    const std::string_view said = nccl().last_error(comm_);
    fail("nccl: ", what, " of ", size(), " ranks on ", device_.name, ": ", nccl().error_string(result), " (", said,
         "); ", said.find("/dev/shm/") == said.npos ? "" : shared_memory_mend, "NCCL_DEBUG=INFO tells more");
  }

  bool someone_failed() const { return policy_.board != nullptr && policy_.board->someone_failed(); }

  MpiGroup group_;
  MeetingPoint point_;
  const WaitPolicy& policy_;
  DeviceHandle& device_;
  const std::shared_ptr<CudaStream> stream_;
  ncclComm_t comm_ = nullptr;
  std::array<std::set<int64_t>, static_cast<size_t>(Meeting::count_)> called_sizes_;  // bytes, by kind
  std::array<Done, 512> done_;
  int64_t called_ = 0, ended_ = 0;  // collectives; of the latter only what the host has seen
  bool is_recorded_ = false;        // some were, in a graph
};

// A group of one: copies on the compute stream.
class LoneDeviceCommunicator : public Communicator {
 public:
  explicit LoneDeviceCommunicator(const DeviceHandle& device) : Communicator(0, 1), compute_(device.compute) {}

 protected:
  Pending run_all_reduce(const Tensor&) override { return {}; }
  Pending run_all_gather(const Tensor& part, const Tensor& whole) override { return copy(part, whole); }
  Pending run_reduce_scatter(const Tensor& whole, const Tensor& part) override { return copy(whole, part); }
  Pending run_broadcast(const Tensor&, int) override { return {}; }

 private:
  Pending copy(const Tensor& from, const Tensor& to) const {
    if (from.data != to.data)
      check_cuda(
          cudaMemcpyAsync(to.data, from.data, static_cast<size_t>(from.bytes()), cudaMemcpyDeviceToDevice, compute_),
          "copy");
    return {};
  }

  cudaStream_t compute_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const Launch& launch, const std::vector<int>& world_ranks,
                                                     GroupName name, DeviceHandle& device) {
  if (world_ranks.size() == 1) return std::make_unique<LoneDeviceCommunicator>(device);
  set_up_nccl();
  if (device.shared) set_up_shared_device(launch);
  MeetingPoint point(launch.whereabouts(), name, world_ranks);
  const MeetingPoint::Visit visit(point, Meeting::setup, 0);
  return std::make_unique<NcclCommunicator>(MpiGroup(world_ranks, launch.wait_policy()), point, launch.wait_policy(),
                                            device);
}

}  // namespace llama_tp
