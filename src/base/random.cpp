#include "base/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/fingerprint.h"

namespace llama_tp {

namespace {

// Multipliers and Weyl constants of the paper's section 4.3.
constexpr uint64_t multiplier_0 = 0xD2511F53u, multiplier_1 = 0xCD9E8D57u;
constexpr uint32_t weyl_0 = 0x9E3779B9u, weyl_1 = 0xBB67AE85u;
constexpr int rounds = 10;

uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

PhiloxCounter block(uint64_t seed, uint64_t stream, uint64_t index) {
  return philox4x32({low(index), high(index), low(stream), high(stream)}, {low(seed), high(seed)});
}

struct Pair {
  float first, second;
};

// radius = sqrt(-2 ln u) with u in (0, 1]; angle uniform. The 32-bit u reaches 6.7 standard deviations.
Pair box_muller(uint32_t radius_bits, uint32_t angle_bits) {
  const float u = (static_cast<float>(radius_bits) + 0.5f) * 0x1p-32f;
  const float angle = static_cast<float>(angle_bits) * (2.0f * std::numbers::pi_v<float> * 0x1p-32f);
  const float radius = std::sqrt(-2.0f * std::log(u));
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

std::array<float, 4> normals(uint64_t seed, uint64_t stream, uint64_t quad) {
  const PhiloxCounter bits = block(seed, stream, quad);
  const Pair a = box_muller(bits[0], bits[1]), b = box_muller(bits[2], bits[3]);
  return {a.first, a.second, b.first, b.second};
}

}  // namespace

PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < rounds; round++) {
    const uint64_t product_0 = multiplier_0 * counter[0], product_1 = multiplier_1 * counter[2];
    counter = {high(product_1) ^ counter[1] ^ key[0], low(product_1), high(product_0) ^ counter[3] ^ key[1],
               low(product_0)};
    key = {key[0] + weyl_0, key[1] + weyl_1};
  }
  return counter;
}

uint64_t stream_named(std::string_view name) { return fingerprint(name); }

uint64_t random_uint64(uint64_t seed, uint64_t stream, uint64_t index) {
  const PhiloxCounter bits = block(seed, stream, index);
  return uint64_t{bits[1]} << 32 | bits[0];
}

float random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
  return static_cast<float>(block(seed, stream, index)[0] >> 8) * 0x1p-24f;
}

void fill_normal(float* to, int64_t count, float scale, uint64_t seed, uint64_t stream, uint64_t first) {
  for (int64_t done = 0; done < count;) {
    const uint64_t index = first + static_cast<uint64_t>(done);
    const std::array<float, 4> quad = normals(seed, stream, index / 4);
    const int64_t skip = static_cast<int64_t>(index % 4), take = std::min<int64_t>(4 - skip, count - done);
    for (int64_t i = 0; i < take; i++) to[done + i] = scale * quad[static_cast<size_t>(skip + i)];
    done += take;
  }
}

}  // namespace llama_tp
