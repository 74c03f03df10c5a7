// What packing, masks and truncation made of a data file, and whether the model is meant for it; for people.
#pragma once

#include <string>
#include <vector>

#include "io/dataset.h"
#include "model/config.h"

namespace llama_tp {

// A line each; none where every token of every sample is learned and nothing was cut.
std::vector<std::string> describe_samples(const std::string& file, const Dataset& data, int64_t block_size);
// That samples were longer than block_size and cut; "" where none was.
std::string beyond_block_size(const std::string& file, const Dataset& data, int64_t block_size);
// That samples of so many tokens are longer than what the model is meant for; "" where they are not.
std::string beyond_positions(int64_t sample_tokens, const ModelConfig& config);

}  // namespace llama_tp
