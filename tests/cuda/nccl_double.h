// What the double of NCCL (nccl_double.cpp) answers and has seen: `nccl_double` in libnccl.so.2.
#pragma once

#include <nccl.h>

struct NcclDouble {
  bool never_connects = false;        // what makes a group; atomic
  ncclResult_t result = ncclSuccess;  // of collectives when they are called,
  ncclResult_t state = ncclSuccess;   // and later
  int version = NCCL_VERSION_CODE;
  int destroyed = 0;
  int (*current_device)() = nullptr;  // of a thread, as CUDA has it; may be absent
  int device = -1;                    // that a group was made on
};
