// Runs a grid of a kernel in PTX, one block after the other. The lanes of a warp that are at the same instruction do it
// together; of those at different ones, the earliest come first, so that they meet again where their ways join.
//
// Copies that go on while a thread does (cp.async, TMA) land as late as they can, and until then their targets are
// 0xff in every byte: NaN. So is shared memory as a block begins.
// Errors, with the instruction's line: memory that nobody reserved, misaligned accesses, lanes that do together what
// all must and are not all there, threads that wait for ever; in a grid that may begin early, a thread that touches
// global memory, or ends, before its wait for the grids ahead.
#pragma once

#include <bit>
#include <cstring>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "ptx/module.h"

namespace llama_tp::ptx {

constexpr int warp_size = 32;
constexpr uint32_t all_lanes = 0xffffffffu;

// A register of each lane, or a predicate as a bit a lane in the first of the words.
struct alignas(64) Lanes {
  uint64_t words[warp_size];

  template <class Value>
  Value get(int lane) const {
    if constexpr (sizeof(Value) == 8) return std::bit_cast<Value>(words[lane]);
    if constexpr (sizeof(Value) == 4) return std::bit_cast<Value>(static_cast<uint32_t>(words[lane]));
    if constexpr (sizeof(Value) == 2) return std::bit_cast<Value>(static_cast<uint16_t>(words[lane]));
    if constexpr (sizeof(Value) == 1) return std::bit_cast<Value>(static_cast<uint8_t>(words[lane]));
  }
  template <class Value>
  void set(int lane, Value value) {
    if constexpr (sizeof(Value) == 8) words[lane] = std::bit_cast<uint64_t>(value);
    if constexpr (sizeof(Value) == 4) words[lane] = std::bit_cast<uint32_t>(value);
    if constexpr (sizeof(Value) == 2) words[lane] = std::bit_cast<uint16_t>(value);
    if constexpr (sizeof(Value) == 1) words[lane] = std::bit_cast<uint8_t>(value);
  }
};

// Calls f(lane) for each of these lanes.
template <class F>
void each_lane(uint32_t lanes, const F& f) {
  if (lanes == all_lanes) {
#pragma GCC ivdep
    for (int lane = 0; lane < warp_size; lane++) f(lane);
  } else {
    for (; lanes != 0; lanes &= lanes - 1) f(std::countr_zero(lanes));
  }
}

// The same, in turn: where a lane may refuse, or meet what another has written.
template <class F>
void in_turn(uint32_t lanes, const F& f) {
  for (; lanes != 0; lanes &= lanes - 1) f(std::countr_zero(lanes));
}

// With the 128-byte swizzle bits 4 to 6 of an address in shared memory are combined (exclusive or) with bits 7 to 9.
constexpr uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

struct Dimensions {
  uint32_t x = 1, y = 1, z = 1;
};

struct Grid {
  const Kernel* kernel;
  Dimensions blocks;
  uint32_t threads;
  uint32_t shared_bytes;             // that the launch asks for
  bool early;                        // may begin before those ahead have ended
  std::span<const char> parameters;  // as the kernel has laid them out
};

// What an instruction that copies while the thread goes on has asked for. None: zeros.
struct Copy {
  int lane;
  char* to;
  const char* from;
  int group;
};

class Block;

class Warp {
 public:
  Warp(Block& block, uint32_t first_thread, uint32_t threads);

  Block& block() { return block_; }
  Lanes& operator[](uint32_t place) { return registers_[place]; }
  uint64_t& predicate(uint32_t place) { return registers_[place].words[0]; }
  // The address operand `n` of a lane, with its offset.
  uint64_t address(const Instruction& instruction, size_t n, int lane) {
    return registers_[instruction.operands[n]].words[lane] + static_cast<uint64_t>(instruction.offsets[n]);
  }

  uint32_t number() const { return first_thread_ / warp_size; }
  // Bytes of a lane's own memory. Errors: outside of it, misaligned.
  char* local(int lane, uint64_t address, size_t bytes, size_t alignment);

  // Errors: one of these lanes has not waited for the grids ahead.
  void expect_to_have_waited(uint32_t lanes) const;

  // As a block of the grid begins.
  void begin(Dimensions block_index);
  // Goes on as far as it can; false if it cannot.
  bool run();
  bool ended() const { return groups_.empty(); }

  uint32_t must_wait = 0;    // lanes, for the grids ahead
  std::vector<Copy> copies;  // cp.async that have not landed
  int groups_of_copies[warp_size] = {};

 private:
  friend class Block;
  enum class State : uint8_t { goes_on, at_barrier, at_phase, must_meet };
  struct Group {  // lanes at the same instruction
    size_t next;
    uint32_t lanes;
    State state = State::goes_on;
  };

  const Instruction& instruction_of(const Group& group) const;
  [[noreturn]] void refuse(const Group& group, const std::string& why) const;
  void execute(const Group& group, uint32_t lanes);
  void step(size_t group);
  bool wait_for_others(Group& group, Flow flow) const;
  uint32_t lanes_left() const;
  void take_branch(size_t group, const Instruction& instruction, uint32_t lanes);
  void end(size_t group, uint32_t lanes);
  void join_groups();
  Group* earliest();

  Block& block_;
  uint32_t first_thread_, lanes_;
  std::vector<Lanes> registers_;
  std::vector<char> local_memory_;
  std::vector<Group> groups_;
};

// A barrier in shared memory (mbarrier).
struct MemoryBarrier {
  uint32_t expected = 0, pending = 0;
  int64_t bytes = 0;
  uint32_t phase = 0;

  void end_phase_if_complete() {
    if (pending == 0 && bytes == 0) phase++, pending = expected;
  }
};

// A box of a tensor on its way (TMA).
struct TileCopy {
  uint64_t map;
  int32_t x, y, z;
  uint32_t to, barrier;
};

class Block {
 public:
  explicit Block(const Grid& grid);
  void run(Dimensions index);

  const Grid& grid() const { return grid_; }
  // Bytes at an address in shared memory. Errors: outside of it, misaligned.
  char* shared(uint32_t address, size_t bytes, size_t alignment);
  char* shared(uint32_t address, size_t bytes) { return shared(address, bytes, bytes); }
  MemoryBarrier& barrier(uint32_t address);

  std::map<uint32_t, MemoryBarrier> barriers;
  std::list<TileCopy> tiles;

 private:
  bool release_barrier();
  bool release_phases();
  static uint32_t awaited_barrier(Warp& warp, const Warp::Group& group);
  bool phase_has_ended(Warp& warp, const Warp::Group& group);
  bool land_a_tile();

  const Grid& grid_;
  std::vector<char> shared_;
  std::vector<std::unique_ptr<Warp>> warps_;
};

void run(const Grid& grid);

// Of copies.cpp: the box of a tile comes to shared memory, and its bytes to the barrier.
void land(Block& block, const TileCopy& tile);

}  // namespace llama_tp::ptx
