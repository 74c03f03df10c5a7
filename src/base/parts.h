// To the next multiple; how many parts of a size something has, the last one perhaps smaller.
#pragma once

#include <cstdint>

namespace llama_tp {

constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int64_t parts_of(int64_t n, int64_t size) { return (n + size - 1) / size; }

}  // namespace llama_tp
