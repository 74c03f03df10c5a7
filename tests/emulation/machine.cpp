#include "emulation/machine.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "base/error.h"
#include "emulation/accesses.h"
#include "emulation/block_memory.h"
#include "emulation/bulk_copies.h"
#include "emulation/device_memory.h"
#include "emulation/fiber.h"
#include "emulation/sanitizers.h"
#include "emulation/warpgroup.h"

namespace llama_tp::emulation {

namespace {

constexpr unsigned warp_size = 32;

const char* name_of(Instruction instruction) {
  constexpr std::array names{"__syncthreads", "__syncwarp",     "shfl", "vote",          "redux",
                             "ldmatrix",      "ldmatrix.trans", "mma",  "mbarrier wait", "wgmma"};
  return names[static_cast<size_t>(instruction)];
}

enum class State : uint8_t { ready, waiting, ended };

struct Running : Thread {
  unsigned number = 0;
  State state = State::ready;
  bool is_behind = false;  // ordered behind the grids ahead
  Fiber fiber;
  Clock clock = Clock::current();
  // What it waits for.
  Instruction instruction = Instruction::block_barrier;
  SourceLine where;
  uint32_t mask = 0;
  const void* asleep_at = nullptr;
  void* offer = nullptr;
  void (*body)(const Offers&) = nullptr;
  // Released at a warp barrier, one and the other in turn: a lane that is already at the next one adds nothing to this.
  char warp_order[2] = {};
  int turn = 0;

  bool sleeps_at(const void* at) const {
    return state == State::waiting && instruction == Instruction::memory_barrier && asleep_at == at;
  }
};

struct Grid {
  Grid(const Launch& with, void (*run)(void*), void* on)
      : launch(with), body(run), of(on), memory(with.shared_bytes, with.threads) {
    const Unseen indices;  // as parameters, threads that begin early find them, too
    threads.resize(with.threads);
  }

  Launch launch;
  void (*body)(void*);
  void* of;
  BlockMemory memory;
  Block block;
  std::vector<Running> threads;
  Running* running = nullptr;
  Fiber scheduler;
  Clock scheduler_clock = Clock::current();
  unsigned live = 0, arrived = 0, generation = 0, blocks_begun = 0;
  std::exception_ptr failure;
  // Addresses at which order is released and acquired. A thread that reaches the next barrier early must add nothing to
  // the one that others have yet to leave, so barriers have two in turn.
  char start, end, barrier[2];
};

Grid* grid = nullptr;  // the one that runs

bool hopper = false;
Order order_of_threads = Order::in_turn;

std::array<BarrierSite, 256> sites;
size_t site_count = 0;
BarrierSite left_out{nullptr, 0};

void note(const BarrierSite& site) {
  const auto end = sites.begin() + static_cast<std::ptrdiff_t>(site_count);
  if (std::find(sites.begin(), end, site) == end && site_count < sites.size()) sites[site_count++] = site;
}

void yield(Running& thread) {
  grid->scheduler_clock.resume();
  thread.fiber.switch_to(grid->scheduler);
}

void resume(Running& thread) {
  grid->running = &thread;
  thread.clock.resume();
  grid->scheduler.switch_to(thread.fiber);
}

// ---- barriers of a block: complete when all threads that have not ended are there

bool at_block_barrier(const Running& thread) {
  return thread.state == State::waiting && thread.instruction == Instruction::block_barrier;
}

void open_barrier_if_complete() {
  if (grid->arrived == 0 || grid->arrived < grid->live) return;
  const Running* first = nullptr;
  for (Running& thread : grid->threads) {
    if (!at_block_barrier(thread)) continue;
    if (first == nullptr) first = &thread;
    require(thread.where.line() == first->where.line(), "threads ", first->number, " and ", thread.number,
            " wait at different barriers, lines ", first->where.line(), " and ", thread.where.line(), " of ",
            thread.where.file_name());
    thread.state = State::ready;
  }
  grid->arrived = 0;
  grid->generation++;
}

// ---- instructions of a warp

bool is_of_warp(Instruction one) { return one > Instruction::block_barrier && one < Instruction::memory_barrier; }

bool carry_out_if_complete(const Running& one) {
  Offers offers{};
  const unsigned first = one.number / warp_size * warp_size;
  const auto lanes = std::min<unsigned>(warp_size, grid->launch.threads - first);
  for (unsigned lane = lanes; lane-- > 0;) {  // the last lane comes last, as a rule
    const Running& other = grid->threads[first + lane];
    if ((one.mask >> lane & 1) == 0 || other.state == State::ended) continue;
    if (other.state != State::waiting || other.mask != one.mask || other.instruction != one.instruction) return false;
    offers[lane] = other.offer;
  }
  one.body(offers);
  for (unsigned lane = 0; lane < lanes; lane++)
    if (offers[lane] != nullptr) grid->threads[first + lane].state = State::ready;
  return true;
}

// ---- a block

// What others waited for may be complete without this thread.
void end_of(Running& thread) {
  thread.state = State::ended;
  grid->live--;
  open_barrier_if_complete();
  const unsigned first = thread.number / warp_size * warp_size;
  for (unsigned i = first; i < std::min(first + warp_size, grid->launch.threads); i++) {
    const Running& other = grid->threads[i];
    if (other.state == State::waiting && is_of_warp(other.instruction)) carry_out_if_complete(other);
  }
}

void go_behind_grids_ahead(Running& thread) {
  acquire(&grid->start);
  thread.is_behind = true;
}

void entry() {
  Running& thread = *grid->running;
  try {
    if (!grid->launch.early) go_behind_grids_ahead(thread);
    grid->body(grid->of);
    require(thread.is_behind, "thread ", thread.number, " ends without having waited for the grids ahead");
    release(&grid->end);
    end_of(thread);
  } catch (...) {
    grid->failure = std::current_exception();
  }
  yield(thread);
}

// ThreadSanitizer takes long to make a thread, so there are four sets, for one block and the next of one grid and the
// next: a block is ordered after the one before the last, but never after its neighbour, nor after the grid ahead.
unsigned grids_begun = 0;
Clock clock_of(unsigned thread) {
  static std::array<std::vector<Clock>, 4> clocks;
  std::vector<Clock>& of_block = clocks[grids_begun % 2 * 2 + grid->blocks_begun % 2];
  while (of_block.size() <= thread) of_block.push_back(Clock::fresh());
  return of_block[thread];
}

void prepare_block(Index index) {
  grid->block.index = index;
  grid->blocks_begun++;
  grid->memory.refresh();
  begin_bulk_copies();
  begin_warpgroups();
  release(&grid->start);
  grid->live = grid->launch.threads;
  grid->arrived = 0;
  for (unsigned i = 0; i < grid->launch.threads; i++) {
    Running& thread = grid->threads[i];
    thread.number = i;
    thread.index = {i, 0, 0};
    thread.state = State::ready;
    thread.is_behind = false;
    thread.pending = thread.group = 0;
    thread.clock = clock_of(i);
    thread.fiber.prepare(grid->memory.stack(i), stack_bytes, entry);
  }
}

[[noreturn]] void report_deadlock() {
  const auto one = std::find_if(grid->threads.begin(), grid->threads.end(),
                                [](const Running& thread) { return thread.state == State::waiting; });
  const auto waiting = std::count_if(grid->threads.begin(), grid->threads.end(),
                                     [&](const Running& f) { return f.state == State::waiting; });
  fail(waiting, " threads wait for ever; thread ", one->number, " at ", name_of(one->instruction), ", ",
       one->where.file_name(), ":", one->where.line());
}

// Whether any thread could.
bool let_threads_go_on() {
  const size_t count = grid->threads.size();
  bool moved = false;
  for (size_t i = 0; i < count; i++) {
    Running& thread = grid->threads[order_of_threads == Order::last ? count - 1 - i : i];
    if (thread.state != State::ready) continue;
    moved = true;
    resume(thread);
    if (grid->failure) std::rethrow_exception(grid->failure);
    if (order_of_threads != Order::in_turn) break;
  }
  return moved;
}

void run_block() {
  while (grid->live > 0) {
    if (order_of_threads != Order::in_turn && land_a_tile()) continue;
    if (!let_threads_go_on() && !land_a_tile()) report_deadlock();
  }
  end_bulk_copies();
}

}  // namespace

Thread& this_thread() { return *grid->running; }
const Block& this_block() { return grid->block; }

void* shared_memory(size_t bytes) {
  require(bytes <= grid->launch.shared_bytes, "the kernel lays out ", bytes,
          " bytes of shared memory, its launch gives ", grid->launch.shared_bytes);
  return grid->memory.shared();
}

bool is_shared(const void* address) {
  const auto* at = static_cast<const char*>(address);
  return at >= grid->memory.shared() && at < grid->memory.shared() + grid->launch.shared_bytes;
}

uint32_t shared_address(const void* at) {
  require(is_shared(at), "an address outside shared memory");
  return static_cast<uint32_t>(static_cast<const char*>(at) - grid->memory.shared());
}

char* at_shared_address(uint32_t address) {
  require(address < grid->launch.shared_bytes, "byte ", address, " of shared memory, which ends at ",
          grid->launch.shared_bytes);
  return grid->memory.shared() + address;
}

bool is_left_out(SourceLine where) {
  const BarrierSite site{where.file_name(), where.line()};
  note(site);
  return site == left_out;
}

void block_barrier(SourceLine where) {
  if (is_left_out(where)) return;
  Running& thread = *grid->running;
  char* order = &grid->barrier[grid->generation % 2];
  release(order);
  thread.instruction = Instruction::block_barrier;
  thread.where = where;
  thread.state = State::waiting;
  grid->arrived++;
  open_barrier_if_complete();
  if (thread.state == State::waiting) yield(thread);
  acquire(order);
}

void wait_for_grids_ahead(SourceLine where) {
  Running& thread = *grid->running;
  if (grid->launch.early && is_left_out(where))
    thread.is_behind = true;
  else
    go_behind_grids_ahead(thread);
}

void together(Instruction instruction, uint32_t mask, void* offer, void (*body)(const Offers& offers)) {
  Running& thread = *grid->running;
  require((mask >> thread.number % warp_size & 1) != 0, name_of(instruction), ": a lane that its own mask leaves out");
  thread.instruction = instruction;
  thread.mask = mask;
  thread.offer = offer;
  thread.body = body;
  thread.state = State::waiting;
  if (!carry_out_if_complete(thread)) yield(thread);
}

void sleep_until_woken(const void* at, SourceLine where) {
  Running& thread = *grid->running;
  thread.instruction = Instruction::memory_barrier;
  thread.where = where;
  thread.asleep_at = at;
  thread.state = State::waiting;
  yield(thread);
}

void wake(const void* at) {
  for (Running& thread : grid->threads)
    if (thread.sleeps_at(at)) thread.state = State::ready;
}

bool is_awaited(const void* at) {
  return std::any_of(grid->threads.begin(), grid->threads.end(), [&](const Running& one) { return one.sleeps_at(at); });
}

void warpgroup_together(SourceLine where, void (*body)(unsigned warpgroup)) {
  Running& thread = *grid->running;
  thread.instruction = Instruction::warpgroup;
  thread.where = where;
  thread.state = State::waiting;
  const unsigned warpgroup = thread.number / warpgroup_size, first = warpgroup * warpgroup_size;
  require(first + warpgroup_size <= grid->launch.threads, "wgmma: a warpgroup of less than 128 threads");
  for (unsigned i = first; i < first + warpgroup_size; i++) {
    const Running& other = grid->threads[i];
    require(other.state != State::ended, "wgmma: thread ", i, " of the warpgroup has ended");
    if (other.state != State::waiting || other.instruction != Instruction::warpgroup) return yield(thread);
  }
  body(warpgroup);
  for (unsigned i = first; i < first + warpgroup_size; i++) grid->threads[i].state = State::ready;
}

void warp_barrier(SourceLine where) {
  if (is_left_out(where)) return;
  struct Meeting {
    char* own;
    Offers all;
  };
  Running& thread = *grid->running;
  thread.where = where;
  Meeting meeting{&thread.warp_order[thread.turn ^= 1], {}};
  release(meeting.own);
  together(Instruction::warp_barrier, 0xffffffffu, &meeting, [](const Offers& offers) {
    for (void* one : offers)
      for (size_t lane = 0; one != nullptr && lane < warp_size; lane++)
        if (offers[lane] != nullptr) static_cast<Meeting*>(one)->all[lane] = static_cast<Meeting*>(offers[lane])->own;
  });
  for (void* other : meeting.all)
    if (other != nullptr) acquire(other);
}

Recording*& recording() {
  static Recording* current = nullptr;
  return current;
}

void run_grid(const Launch& launch, void (*body)(void*), void* of) {
  if (launch.blocks.x == 0 || launch.blocks.y == 0 || launch.blocks.z == 0) return;
  require(launch.threads >= 1 && launch.threads <= 1024, launch.name, ": ", launch.threads, " threads in a block");
  const DeviceAccess access;
  Grid running(launch, body, of);
  running.block.threads = {launch.threads, 1, 1};
  running.block.grid = launch.blocks;
  grid = &running;
  grids_begun++;
  begin_grid_of_accesses(launch);
  Index at;
  try {
    for (at.z = 0; at.z < launch.blocks.z; at.z++)
      for (at.y = 0; at.y < launch.blocks.y; at.y++)
        for (at.x = 0; at.x < launch.blocks.x; at.x++) {
          prepare_block(at);
          run_block();
          end_block_of_accesses();
        }
  } catch (const Error& error) {
    end_grid_of_accesses();
    grid = nullptr;
    fail(launch.name, ": block ", at.x, ", ", at.y, ", ", at.z, ": ", error.what());
  }
  acquire(&running.end);
  end_grid_of_accesses();
  grid = nullptr;
}

void go_on_in(Order order) { order_of_threads = order; }
void be_hopper(bool yes) { hopper = yes; }
bool is_hopper() { return hopper; }

std::vector<BarrierSite> barrier_sites() {
  return {sites.begin(), sites.begin() + static_cast<std::ptrdiff_t>(site_count)};
}
void leave_out(const BarrierSite& site) { left_out = site; }

}  // namespace llama_tp::emulation
