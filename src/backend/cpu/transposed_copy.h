// A matrix written with rows and columns exchanged.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace llama_tp {

// to[column][row], dense, from rows that lie `stride` elements apart: `rows` of them, `columns` of each.
void transposed_copy(int threads, const bf16* from, int64_t stride, int64_t rows, int64_t columns, bf16* to);

}  // namespace llama_tp
