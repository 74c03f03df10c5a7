#include "commands/memory_limit.h"

#include "report/format.h"

namespace llama_tp {

std::optional<MemoryLimit> memory_limit_from(const Options& options, const std::optional<DeviceSheet>& device) {
  if (options.given("memory")) return MemoryLimit{options.bytes("memory"), bytes_text(options.bytes("memory"))};
  if (!device.has_value()) return std::nullopt;
  return MemoryLimit{device->free_bytes(),
                     text(bytes_text(device->free_bytes()), " (", device->name, "'s ", bytes_text(device->memory_bytes),
                          " less ", bytes_text(device->reserved_bytes), " for CUDA's context and NCCL)")};
}

}  // namespace llama_tp
