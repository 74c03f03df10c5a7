// Makes the communicator for a list of ranks whose tensors lie in the memory of CUDA devices, by NCCL.
//
// Each communicator has a stream of its own. A collective begins when the compute stream has come to the place of its
// call; Pending::wait makes the compute stream wait for its end, the host goes on. So one that is waited for at once, as
// most of tensor parallelism, does not stand behind a block that FSDP gathers meanwhile. Two of different groups must not
// hold multiprocessors that the other needs, one way round on this rank and the other way on that: NCCL starts them in the
// order in which the program calls them (NCCL_LAUNCH_ORDER_IMPLICIT, from NCCL 2.26 on), which is the same on all ranks;
// with a driver or a CUDA of its own below 12.3 one after another. Of an older NCCL all groups share one stream.
//
// Sums run in NCCL's order, which depends on the number of ranks, the tensor's size and the topology: two runs of one
// mesh on the same machines agree bitwise, and every rank gets the same bits, but they are not the bits of rank order.
// A sum of bf16 is rounded to bf16 after each addition (a ring of n ranks: n − 1 times); f32 and f64 are not rounded
// otherwise. Not so where an NVLink switch sums (NVLS): its order is not the same in every run (NVIDIA/nccl, issues 1497
// and 2360). It is faster, and left off (NCCL_NVLS_ENABLE) unless the environment asks for it.
#pragma once

#include <memory>
#include <vector>

#include "backend/device_handle.h"
#include "parallel/communicator.h"
#include "parallel/launch.h"

namespace llama_tp {

// Collective over the listed ranks of the world, which become ranks 0, 1, … of the group in this order; this process is
// one of them. device must outlive it. Errors: there is no libnccl; what NCCL says; Stopped.
std::unique_ptr<Communicator> make_nccl_communicator(const Launch& launch, const std::vector<int>& world_ranks,
                                                     GroupName name, DeviceHandle& device);

}  // namespace llama_tp
