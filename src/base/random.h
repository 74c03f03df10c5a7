// Random numbers without a state: a value is a function of (seed, stream, index), so that any rank computes any element
// of any tensor alone. The generator is Philox4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy
// as 1, 2, 3", 2011). Key: the seed; counter: the stream in its high half, the index in its low half.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace llama_tp {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// Ten rounds: 128 random bits for each counter under a key.
PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key);

// A stream's number from its name ("model.embed_tokens.weight"), its fingerprint: names that differ have streams that
// differ.
uint64_t stream_named(std::string_view name);

uint64_t random_uint64(uint64_t seed, uint64_t stream, uint64_t index);

// In [0, 1), a multiple of 2^-24.
float random_uniform(uint64_t seed, uint64_t stream, uint64_t index);

// to[i] = scale * value first + i of the stream. Values are standard normal by Box and Muller (1958): 4 k … 4 k + 3 come
// from one Philox block, two from each pair of its words. Serial: callers split the range.
void fill_normal(float* to, int64_t count, float scale, uint64_t seed, uint64_t stream, uint64_t first);

}  // namespace llama_tp
