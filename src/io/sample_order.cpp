#include "io/sample_order.h"

#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/random.h"

namespace llama_tp {

namespace {

// In [0, count): the high word of a product of 64 bits each (Lemire 2019); its bias, count / 2^64, is nothing here.
uint64_t below(uint64_t count, uint64_t random) {
  __extension__ using uint128 = unsigned __int128;
  return static_cast<uint64_t>(static_cast<uint128>(random) * count >> 64);
}

}  // namespace

SampleOrder::SampleOrder(int64_t samples, uint64_t seed, int64_t epoch) {
  require(samples >= 0 && samples <= UINT32_MAX, "cannot shuffle ", samples, " samples; at most ", UINT32_MAX);
  const uint64_t stream = stream_named("sample order") + static_cast<uint64_t>(epoch);
  order_.resize(static_cast<size_t>(samples));
  std::iota(order_.begin(), order_.end(), 0u);
  for (uint64_t left = order_.size(); left > 1; left--)
    std::swap(order_[left - 1], order_[below(left, random_uint64(seed, stream, left))]);
}

}  // namespace llama_tp
