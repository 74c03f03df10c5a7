// The steps in which --compare sets schemes side by side, the same for `plan` and for `bench`: a scheme's smallest, one
// forward of its samples on every rank that has data of its own, and one of equal work, as many samples for every
// scheme, in as many of these forwards as it takes.
#pragma once

#include <string>
#include <vector>

#include "bench/scheme.h"
#include "train/trainer.h"

namespace llama_tp {

// Samples of a scheme's smallest step.
int64_t samples_of_forward(const Scheme& scheme);
// The fewest samples that all of the schemes can divide. Errors: more than can be counted.
int64_t fewest_equal_samples(const std::vector<Scheme>& schemes);

// Errors: a forward of more tokens than check_forward_tokens admits.
BatchShape smallest_batch(const Scheme& scheme, int64_t block_size);
// Errors: those of smallest_batch; a global batch that no number of forwards makes.
BatchShape equal_batch(const Scheme& scheme, int64_t global_batch, int64_t block_size);

TrainerOptions options_of(const Scheme& scheme, const BatchShape& batch);

// "8 x 1": forwards of a rank, and samples of each.
std::string forwards_words(const BatchShape& batch);

}  // namespace llama_tp
