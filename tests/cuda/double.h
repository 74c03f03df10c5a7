// CUDA's runtime for tests of the CUDA backend where there is no GPU: the functions that it calls, by their own names
// and linked in their place, on the emulated device's memory. All is done when a call returns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace llama_tp {

// What a stream was asked for.
struct StreamCall {
  enum class What : uint8_t { record, wait, collective } what;
  const void *event, *stream;
  bool operator==(const StreamCall&) const = default;
};

struct CudaDouble {
  int driver = 13000;                // the version that it knows; 0: there is none
  int devices = 2;                   // that the process sees,
  int hidden = 0;                    // behind so many of the host's
  std::vector<int> majors = {8, 8};  // of the devices' compute capabilities; further ones are as the last
  bool runs_kernels = true;
  size_t free_bytes = size_t{1} << 30;
  size_t context_bytes = size_t{300} << 20;  // in use beside what was reserved
  bool never_ends = false;                   // what was asked of a stream,
  const void* comes_to_its_end = nullptr;    // but for the moments of this one, which then waits for another stream
  bool breaks = false;                       // whatever is asked of the device
  int waits = 0;                             // of the host for a stream
  int reservations = 0;                      // of memory
  int graphs_started = 0;
  std::vector<StreamCall> stream_calls{};  // of events, in their order, and what a test adds
  double clock = 0;                        // the device's, in seconds; products and copies take some
};
CudaDouble& cuda_double();

}  // namespace llama_tp
