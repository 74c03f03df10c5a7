// Bulk conversion between F32, BF16 and F16, as fast as memory: loops without branches or calls, which compilers
// vectorize. The same results, bit for bit, as base/dtype.h gives one element at a time.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace llama_tp {

// True where convert_floats knows the pair: equal types, or two of F32, BF16 and F16.
bool converts(DType from, DType to);

// `from` and `to` are aligned to their element and do not overlap. Errors: a pair that does not convert.
void convert_floats(const void* from, DType from_dtype, void* to, DType to_dtype, int64_t count);

}  // namespace llama_tp
