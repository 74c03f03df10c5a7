// NCCL for tests where there is no GPU, as a library that is loaded in its place: groups are made, collectives send
// nothing, and the state of all is what a test says.
#include "cuda/nccl_double.h"

#include <unistd.h>

#include <atomic>

NcclDouble nccl_double;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = nccl_double.version;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId*) { return ncclSuccess; }
ncclResult_t ncclCommInitRank(ncclComm_t*, int, ncclUniqueId, int) {
  while (std::atomic_ref(nccl_double.never_connects).load()) usleep(1000);
  if (nccl_double.current_device != nullptr) nccl_double.device = nccl_double.current_device();
  return nccl_double.result;
}
ncclResult_t ncclCommDestroy(ncclComm_t) {
  nccl_double.destroyed++;
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* state) {
  *state = nccl_double.state;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t) { return "what NCCL says"; }
const char* ncclGetLastError(ncclComm_t) { return "and where"; }
ncclResult_t ncclAllReduce(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t) {
  return nccl_double.result;
}
ncclResult_t ncclAllGather(const void*, void*, size_t, ncclDataType_t, ncclComm_t, cudaStream_t) {
  return nccl_double.result;
}
ncclResult_t ncclReduceScatter(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t) {
  return nccl_double.result;
}
ncclResult_t ncclBroadcast(const void*, void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t) {
  return nccl_double.result;
}

}  // extern "C"
