// What a plan may take of a rank's memory.
#pragma once

#include <optional>
#include <string>

#include "commands/options.h"
#include "train/device_sheet.h"

namespace llama_tp {

struct MemoryLimit {
  int64_t bytes = 0;
  std::string words;  // "80.00 GiB", or what of which device
};

// --memory, all of which may be taken; else the device's, but for what is reserved; else none.
std::optional<MemoryLimit> memory_limit_from(const Options& options, const std::optional<DeviceSheet>& device);

}  // namespace llama_tp
