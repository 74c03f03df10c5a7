#include "emulation/instructions.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "emulation/accesses.h"
#include "emulation/machine.h"
#include "emulation/sanitizers.h"

namespace llama_tp::emulation {

namespace {

constexpr uint32_t whole_warp = 0xffffffffu;
constexpr size_t copy_bytes = 16, row_elements = 8;

bool waits_left_out = false;

template <class Offer>
Offer& as(void* offer) {
  return *static_cast<Offer*>(offer);
}

template <class Value>
struct Shuffle {
  Value value, result;
  size_t source;
};

// What a lane that is not there gives.
template <class Value>
constexpr Value nothing = std::numeric_limits<Value>::has_quiet_NaN ? std::numeric_limits<Value>::quiet_NaN()
                                                                    : std::numeric_limits<Value>::max();

size_t this_lane() { return this_thread().index.x % 32; }

template <class Value>
Value shuffle(uint32_t mask, Value value, int difference) {
  Shuffle<Value> offer{value, nothing<Value>, this_lane() ^ static_cast<size_t>(difference)};
  together(Instruction::shuffle, mask, &offer, [](const Offers& offers) {
    for (void* one : offers) {
      if (one == nullptr) continue;
      auto& lane = as<Shuffle<Value>>(one);
      if (offers[lane.source] != nullptr) lane.result = as<Shuffle<Value>>(offers[lane.source]).value;
    }
  });
  return offer.result;
}

template <class Value>
struct Butterfly {
  Value value;
  Value (*join)(Value, Value);
  size_t lanes;
};

template <class Value>
Value meet_in_butterfly(Value value, Value (*join)(Value, Value), int lanes) {
  Butterfly<Value> offer{value, join, static_cast<size_t>(lanes)};
  together(Instruction::shuffle, whole_warp, &offer, [](const Offers& offers) {
    Value values[2][32];
    for (size_t lane = 0; lane < 32; lane++)
      values[0][lane] = offers[lane] != nullptr ? as<Butterfly<Value>>(offers[lane]).value : nothing<Value>;
    const auto first = as<Butterfly<Value>>(*std::find_if(offers.begin(), offers.end(), std::identity()));
    size_t now = 0;
    for (size_t difference = first.lanes / 2; difference > 0; difference /= 2, now ^= 1)
      for (size_t lane = 0; lane < 32; lane++)
        values[now ^ 1][lane] = first.join(values[now][lane], values[now][lane ^ difference]);
    for (size_t lane = 0; lane < 32; lane++)
      if (offers[lane] != nullptr) as<Butterfly<Value>>(offers[lane]).value = values[now][lane];
  });
  return offer.value;
}

// Of an instruction that PTX calls aligned: undefined unless the whole warp takes part.
void require_all(const char* instruction, const Offers& offers) {
  for (void* offer : offers) require(offer != nullptr, instruction, ": a lane of the warp has ended or does not exist");
}

// ---- matrices

struct Load {
  const bf16* row;  // that this lane gives the address of
  uint32_t result[4];
};

// element(matrix, i, j) for lane l's pair: (l/4, 2(l%4)) and the next, or the same of the transposed matrix.
template <bool transposed>
void carry_out_load(const Offers& offers) {
  require_all("ldmatrix", offers);
  for (size_t lane = 0; lane < 32; lane++)
    for (size_t matrix = 0; matrix < 4; matrix++) {
      const auto element = [&](size_t i, size_t j) -> uint32_t {
        return as<Load>(offers[matrix * 8 + (transposed ? j : i)]).row[transposed ? i : j].bits;
      };
      const size_t i = lane / 4, j = lane % 4 * 2;
      as<Load>(offers[lane]).result[matrix] = element(i, j) | element(i, j + 1) << 16;
    }
}

template <bool transposed>
void load(uint32_t (&to)[4], const bf16* row, const void* code) {
  require_aligned(row, copy_bytes);
  require(is_shared(row) && is_shared(row + row_elements - 1), "ldmatrix: a row outside shared memory");
  reads(row, copy_bytes);
  note_access(row, copy_bytes, false, code);
  Load offer{row, {}};
  together(transposed ? Instruction::load_transposed : Instruction::load, whole_warp, &offer,
           carry_out_load<transposed>);
  std::copy_n(offer.result, 4, to);
}

struct Product {
  float* d;
  const uint32_t *a, b[2];
};

float half_of(uint32_t pair, size_t half) { return std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xffff0000u); }

void carry_out_product(const Offers& offers) {
  require_all("mma", offers);
  float a[16][16], b[16][8];
  for (size_t lane = 0; lane < 32; lane++) {
    const auto& from = as<Product>(offers[lane]);
    const size_t g = lane / 4, t = lane % 4;
    for (size_t half = 0; half < 2; half++) {
      for (size_t i = 0; i < 4; i++) a[g + i % 2 * 8][2 * t + i / 2 * 8 + half] = half_of(from.a[i], half);
      for (size_t i = 0; i < 2; i++) b[2 * t + i * 8 + half][g] = half_of(from.b[i], half);
    }
  }
  float d[16][8];
  const auto each_sum = [&](const auto& body) {
    for (size_t lane = 0; lane < 32; lane++)
      for (size_t i = 0; i < 4; i++)
        body(as<Product>(offers[lane]).d[i], d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2]);
  };
  each_sum([](float& of_lane, float& sum) { sum = of_lane; });
  for (size_t i = 0; i < 16; i++)
    for (size_t k = 0; k < 16; k++)
      for (size_t j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
  each_sum([](float& of_lane, float& sum) { of_lane = sum; });
}

}  // namespace

float shuffle_xor(uint32_t mask, float value, int difference) { return shuffle(mask, value, difference); }
double shuffle_xor(uint32_t mask, double value, int difference) { return shuffle(mask, value, difference); }
uint64_t shuffle_xor(uint32_t mask, uint64_t value, int difference) { return shuffle(mask, value, difference); }

float butterfly(float value, float (*join)(float, float), int lanes) { return meet_in_butterfly(value, join, lanes); }
double butterfly(double value, double (*join)(double, double), int lanes) {
  return meet_in_butterfly(value, join, lanes);
}
uint64_t butterfly(uint64_t value, uint64_t (*join)(uint64_t, uint64_t), int lanes) {
  return meet_in_butterfly(value, join, lanes);
}

uint32_t ballot(uint32_t mask, bool condition) {
  struct Vote {
    bool condition;
    uint32_t result;
  };
  Vote offer{condition, 0};
  together(Instruction::vote, mask, &offer, [](const Offers& offers) {
    uint32_t result = 0;
    for (size_t lane = 0; lane < 32; lane++)
      if (offers[lane] != nullptr && as<Vote>(offers[lane]).condition) result |= 1u << lane;
    for (void* one : offers)
      if (one != nullptr) as<Vote>(one).result = result;
  });
  return offer.result;
}

uint32_t largest(uint32_t mask, uint32_t value) {
  together(Instruction::reduce, mask, &value, [](const Offers& offers) {
    uint32_t most = 0;
    for (void* one : offers)
      if (one != nullptr) most = std::max(most, as<uint32_t>(one));
    for (void* one : offers)
      if (one != nullptr) as<uint32_t>(one) = most;
  });
  return value;
}

void load_matrices(uint32_t (&to)[4], const bf16* row) { load<false>(to, row, __builtin_return_address(0)); }
void load_matrices_transposed(uint32_t (&to)[4], const bf16* row) { load<true>(to, row, __builtin_return_address(0)); }

void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product offer{d, a, {b0, b1}};
  together(Instruction::multiply, whole_warp, &offer, carry_out_product);
}

// ---- copies

void copy_async(void* to_shared, const void* from, bool exists) {
  require_aligned(to_shared, copy_bytes);
  if (exists) require_aligned(from, copy_bytes);
  require(is_shared(to_shared), "cp.async: a target outside shared memory");
  Thread& thread = this_thread();
  require(thread.pending < static_cast<int>(thread.copies.size()), "cp.async: more copies under way than expected");
  writes(to_shared, copy_bytes);
  note_access(to_shared, copy_bytes, true, __builtin_return_address(0));
  if (exists) note_access(from, copy_bytes, false, __builtin_return_address(0));
  std::memset(to_shared, 0xff, copy_bytes);
  thread.copies[static_cast<size_t>(thread.pending++)] = {to_shared, exists ? from : nullptr, thread.group};
}

void commit_copies() { this_thread().group++; }

void wait_for_copies(int open) {
  if (waits_left_out) return;
  Thread& thread = this_thread();
  int kept = 0;
  for (int i = 0; i < thread.pending; i++) {
    const PendingCopy copy = thread.copies[static_cast<size_t>(i)];
    if (copy.group >= thread.group - open) {
      thread.copies[static_cast<size_t>(kept++)] = copy;
      continue;
    }
    writes(copy.to, copy_bytes);
    if (copy.from != nullptr) {
      reads(copy.from, copy_bytes);
      std::memcpy(copy.to, copy.from, copy_bytes);
    } else {
      std::memset(copy.to, 0, copy_bytes);
    }
  }
  thread.pending = kept;
}

// ---- addresses and numbers

void require_aligned(const void* address, unsigned bytes) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  require(at % bytes == 0, "an access of ", bytes, " bytes at address ", at, ", which is no multiple of them");
}

uint32_t pair_of(float first, float second) {
  const auto half = [](float value) -> uint32_t { return std::isnan(value) ? 0x7fff : to_bf16(value).bits; };
  return half(first) | half(second) << 16;
}

float power_of_two(float x) {
  const float power = std::exp2(x);
  return power < std::numeric_limits<float>::min() ? 0.0f : power;
}

float reciprocal(float x) {
  const float inverse = 1 / x;
  return std::fabs(inverse) < std::numeric_limits<float>::min() ? std::copysign(0.0f, inverse) : inverse;
}

void leave_out_waits(bool leave_out) { waits_left_out = leave_out; }
bool are_waits_left_out() { return waits_left_out; }

}  // namespace llama_tp::emulation
