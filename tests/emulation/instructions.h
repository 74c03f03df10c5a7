// Twins of the instructions in kernels/ptx.h, by the same names.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace llama_tp::emulation {

// A lane that has ended or that the mask leaves out gives NaN, or all bits of an integer.
float shuffle_xor(uint32_t mask, float value, int difference);
double shuffle_xor(uint32_t mask, double value, int difference);
uint64_t shuffle_xor(uint32_t mask, uint64_t value, int difference);
uint32_t ballot(uint32_t mask, bool condition);
uint32_t largest(uint32_t mask, uint32_t value);
// What rounds of value = join(value, shuffle_xor(value, difference)) give, for differences lanes / 2, … 4, 2 and 1.
float butterfly(float value, float (*join)(float, float), int lanes);
double butterfly(double value, double (*join)(double, double), int lanes);
uint64_t butterfly(uint64_t value, uint64_t (*join)(uint64_t, uint64_t), int lanes);

// Errors: a row that is not in shared memory, or not at a multiple of 16 bytes.
void load_matrices(uint32_t (&to)[4], const bf16* row);
void load_matrices_transposed(uint32_t (&to)[4], const bf16* row);
// The sixteen products of a sum are added in order of k, in f32; a GPU's order is its own.
void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

// The target becomes NaN at once, its value at the wait. Errors: misaligned; a target outside shared memory.
void copy_async(void* to_shared, const void* from, bool exists);
void commit_copies();
void wait_for_copies(int open);

// What is loaded and stored in one piece; the compiler keeps it in one.
template <int bytes>
struct PieceOf {
  using Type [[gnu::vector_size(bytes), gnu::may_alias]] = uint32_t;
};
template <int bytes>
using Piece = typename PieceOf<bytes>::Type;
// Errors: it is not.
void require_aligned(const void* address, unsigned bytes);
// That this thread writes sixteen bytes there: what is asynchronous sees it after a fence (bulk_copies.h).
void note_write(const void* at);

uint32_t pair_of(float first, float second);
float power_of_two(float x);
float reciprocal(float x);

// ---- for tests

// Whether from now on waiting for asynchronous copies waits for none.
void leave_out_waits(bool leave_out);
bool are_waits_left_out();

}  // namespace llama_tp::emulation
