// Makes the communicator for a list of ranks whose tensors lie in the memory of CUDA devices, by NCCL.
//
// All communicators of a rank work on one stream, in the order in which the program calls them, which is the same on
// all ranks: two of them can never wait for each other crosswise. A collective begins when the compute stream has come
// to the place of its call; Pending::wait makes the compute stream wait for its end, the host goes on.
//
// Sums run in NCCL's order, which depends on the number of ranks, the tensor's size and the topology: two runs of one
// mesh on the same machines agree bitwise, and every rank gets the same bits, but they are not the bits of rank order.
// A sum of bf16 is rounded to bf16 after each addition (a ring of n ranks: n − 1 times); f32 and f64 are not rounded
// otherwise.
#pragma once

#include <memory>
#include <vector>

#include "backend/device_streams.h"
#include "parallel/communicator.h"
#include "parallel/launch.h"

namespace llama_tp {

// Collective over the listed ranks of the world, which become ranks 0, 1, … of the group in this order; this process is
// one of them. device must outlive it. Errors: there is no libnccl; what NCCL says; Stopped.
std::unique_ptr<Communicator> make_nccl_communicator(const Launch& launch, const std::vector<int>& world_ranks,
                                                     DeviceStreams& device);

}  // namespace llama_tp
