// Operations that are asked for again and again on the same tensors, as those of a token are: a device may write them
// down once and then start them all at once, without the host's time for each of them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace llama_tp {

class Recorder {
 public:
  virtual ~Recorder() = default;

  // Runs `work`, or starts what was recorded of it. Its operations and collectives, with all tensors and sizes, must be
  // the same whenever `key` is; it copies nothing between host and device and waits for nothing. What is repeated is
  // counted once.
  virtual void repeat(const std::vector<int64_t>& key, const std::function<void()>& work) = 0;
  // Before memory or communicators that a recording uses are given back.
  virtual void forget() = 0;
};

}  // namespace llama_tp
