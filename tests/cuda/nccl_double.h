// What the double of NCCL (nccl_double.cpp) answers and has seen: `nccl_double` in libnccl.so.2.
#pragma once

#include <nccl.h>

#include <functional>

#include "parallel/communicator.h"

// As it was asked for.
struct NcclCollective {
  llama_tp::Collective collective;
  const void* from;
  void* to;
  size_t count;
  ncclDataType_t type;
  cudaStream_t stream;
  ncclRedOp_t operation = ncclSum;
  int root = 0;
};

struct NcclDouble {
  bool never_connects = false;        // what makes a group; atomic
  ncclResult_t result = ncclSuccess;  // of collectives when they are called,
  ncclResult_t state = ncclSuccess;   // and later
  const char* last_error = "and where";
  int version = NCCL_VERSION_CODE;
  int destroyed = 0;
  int (*current_device)() = nullptr;                         // of a thread, as CUDA has it; may be absent
  int device = -1;                                           // that a group was made on
  std::function<void(const NcclCollective&)> run = nullptr;  // what a collective does; may be absent
};
