// Division and multiples rounded up; and parts of one size, the last one perhaps smaller.
#pragma once

#include <cstdint>

namespace llama_tp {

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int64_t ceil_div(int64_t n, int64_t divisor) { return (n + divisor - 1) / divisor; }
// body(begin, count) for each part of [0, n).
template <class Body>
void each_part(int64_t n, int64_t size, const Body& body) {
  for (int64_t begin = 0; begin < n; begin += size) body(begin, n - begin < size ? n - begin : size);
}

}  // namespace llama_tp
