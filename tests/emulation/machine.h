// A GPU of one multiprocessor on one CPU thread. Each CUDA thread is a fiber that runs until it must wait for others:
// at a barrier, or at an instruction that a warp carries out together. Blocks run one after another. What a GPU would
// leave undefined becomes an Error or a visible wrong value:
//   - shared memory starts as NaN, and so does the target of an asynchronous copy until its wait;
//   - threads that wait for others that never come are reported, with the place where they wait;
//   - misaligned accesses of 16 bytes are reported, and accesses out of bounds by AddressSanitizer;
//   - what Hopper does by itself (bulk_copies.h, warpgroup.h) is done as late as it can be;
//   - a thread of a grid that may begin early and that ends without having waited for the grids ahead is reported.
// Under ThreadSanitizer each CUDA thread of each block is a thread of its own, and only what orders memory on a GPU
// orders it: barriers, those in memory too, and the start and end of a grid, where one begins early its threads' waits
// for those ahead; not shuffles, and nothing between blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "emulation/source_line.h"

namespace llama_tp::emulation {

struct Index {
  unsigned x = 1, y = 1, z = 1;
};

// An asynchronous copy of 16 bytes under way; from is null where zeros are to be written.
struct PendingCopy {
  void* to;
  const void* from;
  int group;
};

struct Thread {
  Index index{0, 0, 0};
  std::array<PendingCopy, 256> copies;  // in fixed memory: what a fiber allocates would look like a race
  int pending = 0, group = 0;
};
struct Block {
  Index index{0, 0, 0}, threads, grid;
};
Thread& this_thread();
const Block& this_block();

struct Launch {
  const char* name;
  const void* kernel;
  Index blocks;
  unsigned threads;
  size_t shared_bytes;
  bool early = false;  // it may begin while the grid ahead runs
};
// While there is one, what is launched is appended to it instead of being run: a CUDA graph being recorded.
using Recording = std::vector<std::function<void()>>;
Recording*& recording();

// Runs body(of) once for each thread of each block. Errors: those of the comment on top, with the launch's name.
void run_grid(const Launch& launch, void (*body)(void*), void* of);

// Errors: more than the launch has given.
void* shared_memory(size_t bytes);
bool is_shared(const void* address);
// As the 32 bits that instructions take, and back. Errors: an address outside.
uint32_t shared_address(const void* at);
char* at_shared_address(uint32_t address);
void block_barrier(SourceLine where);
void warp_barrier(SourceLine where);
void wait_for_grids_ahead(SourceLine where);

// What threads wait for each other at.
enum class Instruction : uint8_t {
  block_barrier,
  warp_barrier,
  shuffle,
  vote,
  reduce,
  load,
  load_transposed,
  multiply,
  memory_barrier,
  warpgroup
};

// An instruction that the lanes of `mask` carry out together: waits until each that has not ended brings an offer to
// the same instruction with the same mask; then the last to come calls body with all offers, null for absent lanes.
using Offers = std::array<void*, 32>;
void together(Instruction instruction, uint32_t mask, void* offer, void (*body)(const Offers& offers));

constexpr unsigned warpgroup_size = 128;
// The same of a warpgroup's 128 threads without offers: body(the warpgroup's number). Errors: one of them has ended.
void warpgroup_together(SourceLine where, void (*body)(unsigned warpgroup));

// Waits until wake(at).
void sleep_until_woken(const void* at, SourceLine where);
void wake(const void* at);
bool is_awaited(const void* at);
// Notes that a barrier was reached there, and says whether it is left out (below).
bool is_left_out(SourceLine where);

// ---- for tests

// Which of the threads that can go on does: each in its turn, or always the first or the last of them, so that others
// come late, and tiles land as soon as one waits for them. A GPU may choose any.
enum class Order : uint8_t { in_turn, first, last };
void go_on_in(Order order);

// Whether the GPU is one that has Hopper's instructions; it is not at first.
void be_hopper(bool hopper);
bool is_hopper();

struct BarrierSite {
  const char* file;
  unsigned line;
  bool operator==(const BarrierSite&) const = default;
};
// The barriers that grids have reached since the program began.
std::vector<BarrierSite> barrier_sites();
// From now on the barrier there does nothing: a kernel that needs it must be seen to fail.
void leave_out(const BarrierSite& site);

}  // namespace llama_tp::emulation
