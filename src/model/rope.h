// Rotary positions: how far a model's reach, and the frequencies by which heads rotate, f32 arithmetic in the order that
// transformers' modeling_rope_utils uses, so that f32 runs agree with it.
#pragma once

#include <span>

#include "model/config.h"

namespace llama_tp {

// The positions that a model is meant for. Linear scaling and YaRN stretch them, and many a file keeps the
// max_position_embeddings from before.
int64_t trained_positions(const ModelConfig& config);
// Do the frequencies depend on a sequence's length?
bool rope_follows_length(const RopeConfig& rope);
// Writes the rotation frequencies, [rotary_dim / 2] in radians a position, for a sequence of `length` tokens.
void rope_frequencies(const ModelConfig& config, int64_t length, std::span<float> frequencies);

}  // namespace llama_tp
