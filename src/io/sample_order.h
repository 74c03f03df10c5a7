// The order of the samples in an epoch: a shuffle that depends on the seed and the epoch only, never on the number of
// ranks. Fisher and Yates' algorithm, drawing from the counter-based generator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace llama_tp {

class SampleOrder {
 public:
  // epoch counts from 0. Takes 4 bytes a sample. Errors: 2^32 samples or more.
  SampleOrder(int64_t samples, uint64_t seed, int64_t epoch);

  int64_t size() const { return static_cast<int64_t>(order_.size()); }
  // The sample at a place of the epoch.
  int64_t operator[](int64_t place) const { return order_[static_cast<size_t>(place)]; }

 private:
  std::vector<uint32_t> order_;
};

}  // namespace llama_tp
