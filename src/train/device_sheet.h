// What a device can do at best, from its datasheet: data/devices/*.json, or a file of the same keys.
#pragma once

#include <cstdint>
#include <string>

namespace llama_tp {

struct DeviceSheet {
  std::string name, source;
  double bf16_flops = 0;        // FLOP/s of dense bf16 products
  int64_t memory_bytes = 0;     // that CUDA reports, less than what is soldered on
  int64_t reserved_bytes = 0;   // of these, for what no plan counts: CUDA's context and NCCL's buffers
  double memory_bandwidth = 0;  // bytes/s
  double link_bandwidth = 0;    // bytes/s to the other devices of its node, in one direction
  int64_t devices_of_a_node = 1;
  double network_bandwidth = 0;  // bytes/s of a device to other nodes, in one direction
  // Seconds beside the bytes: of any collective, and of each step of its ring from device to device.
  double collective_latency = 0, link_latency = 0, network_latency = 0;

  int64_t free_bytes() const { return memory_bytes - reserved_bytes; }
};

// A shipped name (h100) or a JSON file. Errors: neither; a key missing or not positive; nothing left
// beside what is reserved.
DeviceSheet read_device_sheet(const std::string& file_or_name);

}  // namespace llama_tp
