// What `llama_tp plan` is asked, be it for one mesh, for all that --search tries or for those that --compare names.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "model/config.h"
#include "model/fsdp.h"
#include "train/device_sheet.h"

namespace llama_tp {

// What a plan may take of a rank's memory.
struct MemoryLimit {
  int64_t bytes = 0;
  std::string words;  // "80.00 GiB", or what of which device
};

struct PlanQuestion {
  ModelConfig config;
  DType dtype = DType::bf16;
  int64_t block_size = 1024;  // of a sample, in tokens
  FsdpOptions fsdp;
  std::optional<DeviceSheet> device;
  std::optional<MemoryLimit> memory;
  std::unique_ptr<Backend> backend;  // whose scratch memory is counted
};

}  // namespace llama_tp
