// What packing, masks and truncation made of a data file, for people.
#pragma once

#include <string>
#include <vector>

#include "io/dataset.h"

namespace llama_tp {

// A line each; none where every token of every sample is learned and nothing was cut.
std::vector<std::string> describe_samples(const std::string& file, const Dataset& data, int64_t block_size);

}  // namespace llama_tp
