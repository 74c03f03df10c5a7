// The emulated GPU's own memory. As on a GPU, the host may hold addresses in it but not use them: what dereferences one
// outside of a DeviceAccess is a segmentation fault. Grids, copies and collectives have such an access; nothing else
// does.
#pragma once

#include <cstdint>

namespace llama_tp::emulation {

// Zeros, on whole pages, with one on each side that nobody may use. Errors: the system has no such memory.
void* reserve_device_memory(int64_t bytes);
void release_device_memory(void* base, int64_t bytes);
bool is_device_memory(const void* at);

// While one lives the device's memory can be used. They nest.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace llama_tp::emulation
