// The ranks of a communicator or group of all.
#pragma once

#include <numeric>
#include <vector>

#include "parallel/launch.h"

namespace llama_tp {

inline std::vector<int> all_ranks(const Launch& launch) {
  std::vector<int> ranks(static_cast<size_t>(launch.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace llama_tp
