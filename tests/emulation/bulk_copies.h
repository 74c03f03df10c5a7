// Twins of Hopper's instructions that copy tiles of a tensor by themselves (TMA) and of the barriers in memory that
// count what has come (PTX ISA: cp.async.bulk.tensor, mbarrier, fence.proxy.async). A tile lands when no thread can go
// on without one: until then its target is NaN, so that a missing wait is seen.
#pragma once

#include <cstdint>

#include "emulation/source_line.h"

namespace llama_tp::emulation {

// What cuTensorMapEncodeTiled is told, of bf16 elements.
struct TensorMap {
  static constexpr int most = 5;
  const char* from = nullptr;
  int rank = 0;
  uint64_t sizes[most] = {}, strides[most] = {};  // strides in bytes, of all dimensions but the innermost
  uint32_t box[most] = {};
  bool swizzled = false;  // by 128 bytes
};
// Errors: what cuTensorMapEncodeTiled refuses.
TensorMap encode_tensor_map(const void* from, int rank, const uint64_t* sizes, const uint64_t* strides,
                            const uint32_t* box, bool swizzled);

// With the 128-byte swizzle the sixteen-byte pieces of a row of 128 bytes change places: bits 4 to 6 of an address in
// shared memory are combined (exclusive or) with bits 7 to 9.
constexpr uint32_t swizzled_address(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// Errors: a barrier that is not 8 bytes of shared memory, aligned and initialized; more arrivals than it expects.
void initialize_barrier(uint64_t* barrier, int arrivals);
void arrive_at_barrier(uint64_t* barrier, int bytes);
void wait_at_barrier(uint64_t* barrier, uint32_t parity, SourceLine where);

// The box at these coordinates, innermost first; zeros where it lies outside of the tensor. Errors: a target that is
// misaligned or not in shared memory; a barrier that the asynchronous proxy does not see yet.
void copy_tile(void* to, const TensorMap& map, const int32_t* coordinates, uint64_t* barrier);

// What this thread has written to shared memory becomes visible to what is done asynchronously. Only writes of 16
// bytes and initializations are followed.
void fence_async_proxy();
// Whether the sixteen bytes at this address have been written without such a fence.
bool is_unfenced(uint32_t address);

// ---- for the machine

void begin_bulk_copies();
// Errors: a block ended while tiles were on their way to its memory.
void end_bulk_copies();
// Lets the tiles land of one barrier that a thread waits for; false where there are none.
bool land_a_tile();

// ---- for tests

// Whether from now on tiles land without their swizzle.
void leave_out_swizzle(bool leave_out);

}  // namespace llama_tp::emulation
