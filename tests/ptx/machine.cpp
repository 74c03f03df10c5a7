#include "ptx/machine.h"

#include <algorithm>

#include "base/error.h"

namespace llama_tp::ptx {

// ---- a warp

Warp::Warp(Block& block, uint32_t first_thread, uint32_t threads)
    : block_(block),
      first_thread_(first_thread),
      lanes_(threads >= warp_size ? all_lanes : (1u << threads) - 1),
      registers_(block.grid().kernel->places),
      local_memory_(size_t{block.grid().kernel->local_bytes} * warp_size) {
  // For the grid's first block: it takes as long as the block itself, and what the compiler reads it has written.
  std::memset(static_cast<void*>(registers_.data()), 0xff, registers_.size() * sizeof(Lanes));
}

void Warp::begin(Dimensions block_index) {
  std::ranges::fill(local_memory_, '\xff');
  groups_ = {{.next = 0, .lanes = lanes_}};
  must_wait = block_.grid().early ? lanes_ : 0;
  copies.clear();
  std::ranges::fill(groups_of_copies, 0);
  for (const auto& [place, with, value] : block_.grid().kernel->filled)
    for (uint32_t lane = 0; lane < warp_size; lane++) {
      uint64_t& word = registers_[place].words[lane];
      if (with == Filling::constant) word = value;
      if (with == Filling::thread_x) word = first_thread_ + lane;
      if (with == Filling::block_x) word = block_index.x;
      if (with == Filling::block_y) word = block_index.y;
      if (with == Filling::block_z) word = block_index.z;
      if (with == Filling::threads_x) word = block_.grid().threads;
      if (with == Filling::blocks_x) word = block_.grid().blocks.x;
      if (with == Filling::blocks_y) word = block_.grid().blocks.y;
      if (with == Filling::blocks_z) word = block_.grid().blocks.z;
      if (with == Filling::local_memory)
        word = reinterpret_cast<uint64_t>(local_memory_.data()) + lane * block_.grid().kernel->local_bytes + value;
    }
}

char* Warp::local(int lane, uint64_t address, size_t bytes, size_t alignment) {
  const uint64_t of_lane = block_.grid().kernel->local_bytes, own = static_cast<uint64_t>(lane) * of_lane;
  const uint64_t from = address - reinterpret_cast<uint64_t>(local_memory_.data());
  require(address % alignment == 0, "a misaligned access of ", bytes, " bytes in local memory");
  require(from >= own && from + bytes <= own + of_lane, "an access outside of the thread's local memory");
  return local_memory_.data() + from;
}

void Warp::expect_to_have_waited(uint32_t lanes) const {
  require((lanes & must_wait) == 0, "before the wait for the grids ahead");
}

const Instruction& Warp::instruction_of(const Group& group) const { return block_.grid().kernel->code[group.next]; }

void Warp::refuse(const Group& group, const std::string& why) const {
  const Instruction& instruction = instruction_of(group);
  fail("ptx: ", block_.grid().kernel->name, ", line ", instruction.line, " (", instruction.opcode, "), thread ",
       first_thread_ + static_cast<uint32_t>(std::countr_zero(group.lanes)), ": ", why);
}

void Warp::execute(const Group& group, uint32_t lanes) {
  const Instruction& instruction = instruction_of(group);
  try {
    instruction.execute(*this, instruction, lanes);
  } catch (const Error& error) {
    refuse(group, error.what());
  }
}

Warp::Group* Warp::earliest() {
  Group* first = nullptr;
  for (Group& group : groups_)
    if (group.state == State::goes_on && (first == nullptr || group.next < first->next)) first = &group;
  return first;
}

// Lanes that have come to the same place go on together.
void Warp::join_groups() {
  for (size_t i = 0; i < groups_.size(); i++)
    for (size_t j = groups_.size() - 1; j > i; j--) {
      const bool waiting = groups_[i].state == State::at_barrier || groups_[i].state == State::at_phase ||
                           groups_[j].state == State::at_barrier || groups_[j].state == State::at_phase;
      if (groups_[i].next != groups_[j].next || waiting) continue;
      groups_[i].lanes |= groups_[j].lanes;
      groups_[i].state = State::goes_on;
      groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(j));
    }
}

bool Warp::run() {
  bool moved = false;
  while (const Group* group = earliest()) {
    moved = true;
    step(static_cast<size_t>(group - groups_.data()));
    if (groups_.size() > 1) join_groups();
  }
  return moved;
}

uint32_t Warp::lanes_left() const {
  uint32_t lanes = 0;
  for (const Group& group : groups_) lanes |= group.lanes;
  return lanes;
}

void Warp::step(size_t number) {
  Group& group = groups_[number];
  const Instruction& instruction = instruction_of(group);
  uint32_t lanes = group.lanes;
  if (instruction.guard >= 0) {
    const auto where = static_cast<uint32_t>(predicate(static_cast<uint32_t>(instruction.guard)));
    lanes &= instruction.guard_negated ? ~where : where;
  }
  if (instruction.flow == Flow::branch) return take_branch(number, instruction, lanes);
  if (instruction.flow == Flow::end) return end(number, lanes);
  if (instruction.flow == Flow::next) {
    if (lanes != 0) execute(group, lanes);
  } else {
    if (instruction.guard >= 0) refuse(group, "some lanes may leave out what all must do");
    if (!wait_for_others(group, instruction.flow)) return;
    execute(group, lanes);
  }
  group.next++;
}

// Whether a group can do now what lanes do together.
bool Warp::wait_for_others(Group& group, Flow flow) const {
  if (flow == Flow::phase)
    group.state = State::at_phase;
  else if (group.lanes != (flow == Flow::barrier ? lanes_left() : all_lanes))
    group.state = State::must_meet;
  else if (flow == Flow::barrier)
    group.state = State::at_barrier;
  return group.state == State::goes_on;
}

void Warp::take_branch(size_t number, const Instruction& instruction, uint32_t lanes) {
  const uint32_t others = groups_[number].lanes & ~lanes;
  const size_t behind = groups_[number].next + 1;
  if (lanes == 0) {
    groups_[number].next = behind;
  } else {
    groups_[number] = {.next = instruction.target, .lanes = lanes};
    if (others != 0) groups_.push_back({.next = behind, .lanes = others});
  }
}

void Warp::end(size_t number, uint32_t lanes) {
  if ((lanes & must_wait) != 0)
    refuse({groups_[number].next, lanes & must_wait}, "it ends without having waited for the grids ahead");
  groups_[number].lanes &= ~lanes;
  groups_[number].next++;
  if (groups_[number].lanes == 0) groups_.erase(groups_.begin() + static_cast<std::ptrdiff_t>(number));
}

// ---- a block

Block::Block(const Grid& grid) : grid_(grid), shared_(grid.kernel->shared_bytes + grid.shared_bytes) {
  for (uint32_t first = 0; first < grid.threads; first += warp_size)
    warps_.push_back(std::make_unique<Warp>(*this, first, grid.threads - first));
}

char* Block::shared(uint32_t address, size_t bytes, size_t alignment) {
  require(address % alignment == 0, "a misaligned access of ", bytes, " bytes in shared memory");
  require(address >= first_shared_address && address - first_shared_address + bytes <= shared_.size(), "an access at ",
          address, " outside of the ", shared_.size(), " bytes of shared memory, which begin at ",
          first_shared_address);
  return shared_.data() + (address - first_shared_address);
}

MemoryBarrier& Block::barrier(uint32_t address) {
  shared(address, 8);
  const auto found = barriers.find(address);
  require(found != barriers.end(), "no barrier was initialized there");
  return found->second;
}

void Block::run(Dimensions index) {
  std::ranges::fill(shared_, '\xff');
  barriers.clear();
  for (const auto& warp : warps_) warp->begin(index);
  while (true) {
    bool moved = false;
    for (const auto& warp : warps_)
      if (warp->run()) moved = true;
    if (std::ranges::all_of(warps_, [](const auto& warp) { return warp->ended(); })) break;
    if (moved || release_barrier() || release_phases() || land_a_tile()) continue;
    for (const auto& warp : warps_)
      for (const Warp::Group& group : warp->groups_) warp->refuse(group, "waits for ever");
  }
  require(tiles.empty(), "ptx: ", grid_.kernel->name, " ended while tiles were on their way to it");
}

// bar.sync 0: when all threads that have not ended are there.
bool Block::release_barrier() {
  for (const auto& warp : warps_)
    for (const Warp::Group& group : warp->groups_)
      if (group.state != Warp::State::at_barrier) return false;
  for (const auto& warp : warps_) {
    for (Warp::Group& group : warp->groups_) {
      warp->execute(group, group.lanes);
      group.next++, group.state = Warp::State::goes_on;
    }
    warp->join_groups();
  }
  return true;
}

bool Block::release_phases() {
  bool any = false;
  for (const auto& warp : warps_) {
    for (Warp::Group& group : warp->groups_) {
      if (group.state != Warp::State::at_phase || !phase_has_ended(*warp, group)) continue;
      warp->execute(group, group.lanes);
      group.next++, group.state = Warp::State::goes_on, any = true;
    }
    warp->join_groups();
  }
  return any;
}

// Its operands: whether it has ended, the barrier's address, the phase's parity. One barrier for all lanes of a group.
uint32_t Block::awaited_barrier(Warp& warp, const Warp::Group& group) {
  const Instruction& instruction = warp.instruction_of(group);
  const int first = std::countr_zero(group.lanes);
  const uint64_t address = warp.address(instruction, 1, first);
  each_lane(group.lanes, [&](int lane) {
    if (warp.address(instruction, 1, lane) != address) warp.refuse(group, "lanes of a warp wait at different barriers");
  });
  return static_cast<uint32_t>(address);
}

bool Block::phase_has_ended(Warp& warp, const Warp::Group& group) {
  const uint32_t address = awaited_barrier(warp, group);
  const auto found = barriers.find(address);
  if (found == barriers.end()) warp.refuse(group, "no barrier was initialized there");
  const uint32_t parity = warp[warp.instruction_of(group).operands[2]].get<uint32_t>(std::countr_zero(group.lanes));
  return (found->second.phase & 1) != parity;
}

// Of those that a thread waits for.
bool Block::land_a_tile() {
  for (const auto& warp : warps_)
    for (const Warp::Group& group : warp->groups_) {
      if (group.state != Warp::State::at_phase) continue;
      const auto tile = std::ranges::find(tiles, awaited_barrier(*warp, group), &TileCopy::barrier);
      if (tile == tiles.end()) continue;
      land(*this, *tile);
      tiles.erase(tile);
      return true;
    }
  return false;
}

void run(const Grid& grid) {
  Block block(grid);
  for (uint32_t z = 0; z < grid.blocks.z; z++)
    for (uint32_t y = 0; y < grid.blocks.y; y++)
      for (uint32_t x = 0; x < grid.blocks.x; x++) block.run({x, y, z});
}

}  // namespace llama_tp::ptx
