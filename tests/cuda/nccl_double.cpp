// NCCL for tests where there is no GPU, as a library that is loaded in its place: groups are made, collectives do what a
// test says, and so is the state of all.
#include "cuda/nccl_double.h"

#include <unistd.h>

#include <atomic>

NcclDouble nccl_double;

namespace {

using llama_tp::Collective;

// The communicator that every group is given. Another one is refused, as NCCL does.
ncclComm_t made() { return reinterpret_cast<ncclComm_t>(&nccl_double); }

ncclResult_t run(ncclComm_t comm, const NcclCollective& asked) {
  if (comm != made()) return ncclInvalidArgument;
  if (nccl_double.result == ncclSuccess && nccl_double.run) nccl_double.run(asked);
  return nccl_double.result;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = nccl_double.version;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId*) { return ncclSuccess; }
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int, ncclUniqueId, int) {
  while (std::atomic_ref(nccl_double.never_connects).load()) usleep(1000);
  if (nccl_double.current_device != nullptr) nccl_double.device = nccl_double.current_device();
  if (nccl_double.result == ncclSuccess) *comm = made();
  return nccl_double.result;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm != made()) return ncclInvalidArgument;
  nccl_double.destroyed++;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  if (comm != made()) return ncclInvalidArgument;
  *state = nccl_double.state;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t) { return "what NCCL says"; }
const char* ncclGetLastError(ncclComm_t) { return nccl_double.last_error; }
ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream) {
  return run(comm, {Collective::all_reduce, from, to, count, type, stream, operation});
}
ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return run(comm, {Collective::all_gather, from, to, count, type, stream});
}
ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                               ncclComm_t comm, cudaStream_t stream) {
  return run(comm, {Collective::reduce_scatter, from, to, count, type, stream, operation});
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream) {
  return run(comm, {Collective::broadcast, from, to, count, type, stream, ncclSum, root});
}

}  // extern "C"
