// What NCCL is asked for, done by MPI as NCCL's documentation has it: in the type, of the elements and from the memory
// that were named, one element after the other.
#pragma once

#include <cstring>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "cuda/nccl_double.h"
#include "emulation/device_memory.h"
#include "parallel/mpi_group.h"

namespace llama_tp {

// Element i of some that lie at `at`.
inline double element(const void* at, DType type, size_t i) {
  if (type == DType::f64) return static_cast<const double*>(at)[i];
  return static_cast<double>(type == DType::bf16 ? to_float(static_cast<const bf16*>(at)[i])
                                                 : static_cast<const float*>(at)[i]);
}
inline void set_element(void* at, DType type, size_t i, double value) {
  if (type == DType::f64)
    static_cast<double*>(at)[i] = value;
  else if (type == DType::bf16)
    static_cast<bf16*>(at)[i] = to_bf16(static_cast<float>(value));
  else
    static_cast<float*>(at)[i] = static_cast<float>(value);
}

inline DType type_of(ncclDataType_t type) {
  if (type == ncclFloat64) return DType::f64;
  require(type == ncclFloat32 || type == ncclBfloat16, "a sum of the type ", static_cast<int>(type));
  return type == ncclBfloat16 ? DType::bf16 : DType::f32;
}

inline void do_by_mpi(MpiGroup& group, const NcclCollective& asked) {
  const emulation::DeviceAccess access;
  const auto ranks = static_cast<size_t>(group.size()), me = static_cast<size_t>(group.rank());
  const bool sums = asked.collective == Collective::all_reduce || asked.collective == Collective::reduce_scatter;
  const bool scatters = asked.collective == Collective::reduce_scatter;
  const size_t sent = (scatters ? ranks : 1) * asked.count,
               size = sums ? static_cast<size_t>(size_of(type_of(asked.type))) : 1;
  require(sums ? asked.operation == ncclSum : asked.type == ncclInt8, "another sum, or not bytes");
  std::vector<char> own(sent * size), all(ranks * sent * size);
  std::memcpy(own.data(), asked.from, own.size());
  group.all_gather(own.data(), all.data(), static_cast<int64_t>(own.size()));
  if (asked.collective == Collective::all_gather) std::memcpy(asked.to, all.data(), all.size());
  if (asked.collective == Collective::broadcast)
    std::memcpy(asked.to, all.data() + static_cast<size_t>(asked.root) * own.size(), own.size());
  for (size_t i = 0; sums && i < asked.count; i++) {
    double total = 0;
    for (size_t rank = 0; rank < ranks; rank++)
      total += element(all.data(), type_of(asked.type), rank * sent + (scatters ? me * asked.count : 0) + i);
    set_element(asked.to, type_of(asked.type), i, total);
  }
}

}  // namespace llama_tp
