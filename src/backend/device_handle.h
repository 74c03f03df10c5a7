// A backend's device as those see it who communicate in the device's memory: operations run behind the host's back, in
// the order in which they were asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/stream.h"

namespace llama_tp {

// How far the device is among the collectives that it was asked for.
struct CollectiveProgress {
  bool stands = false;  // it has come to one that has not ended, for which it may have to wait for other ranks
  int64_t ended = 0;    // how many have
};

// Looked at again and again while the host waits for the device.
class Watcher {
 public:
  virtual ~Watcher() = default;
  // Of the collectives that it watches, if any.
  virtual CollectiveProgress progress() { return {}; }
  // stands, stood: whether the device stands in a collective, of whichever watcher; for how long in one, as far as the
  // host has waited meanwhile. What it throws ends the wait.
  virtual void look(bool stands, std::chrono::duration<double> stood) = 0;
};

struct DeviceHandle {
  std::string name;          // "cuda device 1 (NVIDIA H100 80GB HBM3)"
  std::string identity;      // of the hardware, among the devices of its host
  int devices = 0;           // that this process sees
  bool shared = false;       // with another rank
  bool tokens_ahead = true;  // LLAMA_TP_TOKENS_AHEAD=0 in the environment: a token is begun when it is fed, not before
  bool graphs = true;        // LLAMA_TP_CUDA_GRAPH=0 in the environment: nothing is recorded
  std::string products;      // a fingerprint of the file that says how products are computed; "" where there is none
  kernels::Stream compute = nullptr;
  std::vector<Watcher*> watchers;
};

}  // namespace llama_tp
