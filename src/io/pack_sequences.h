// Several sequences in one sample, so that a forward holds few tokens that count for nothing.
#pragma once

#include <cstdint>

#include "io/dataset.h"

namespace llama_tp {

// Best fit decreasing: the longest sequence first, each into the sample in which it leaves the least room, else into a
// new one. Reorders the arrays and fills `blocks`. No sequence is longer than block_size.
void pack_sequences(Dataset& data, int64_t block_size);

}  // namespace llama_tp
