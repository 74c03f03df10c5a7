#include "emulation/bulk_copies.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "emulation/accesses.h"
#include "emulation/instructions.h"
#include "emulation/machine.h"
#include "emulation/sanitizers.h"

namespace llama_tp::emulation {

namespace {

constexpr uint32_t element_bytes = 2, piece_bytes = 16;

// ---- barriers in memory

constexpr uint32_t initialized = 0x55;
struct BarrierState {
  uint32_t mark : 7, phase : 1, expected : 12, missing : 12;
  int32_t bytes;  // expected and not yet landed
};
static_assert(sizeof(BarrierState) == sizeof(uint64_t));

BarrierState state_of(const uint64_t* barrier) {
  require_aligned(barrier, sizeof(uint64_t));
  require(is_shared(barrier), "mbarrier: not in shared memory");
  reads(barrier, sizeof *barrier);
  const auto state = std::bit_cast<BarrierState>(*barrier);
  require(state.mark == initialized, "mbarrier: used before it is initialized");
  return state;
}

// Where order is released and acquired: phases have two in turn, since threads may be one phase apart.
char* order_of(uint64_t* barrier, uint32_t phase) { return reinterpret_cast<char*>(barrier) + 4 * phase; }

// Ends the phase when everything has come.
void keep(uint64_t* barrier, BarrierState state) {
  const bool complete = state.missing == 0 && state.bytes == 0;
  if (complete) {
    state.phase ^= 1u;
    state.missing = state.expected;
  }
  *barrier = std::bit_cast<uint64_t>(state);
  if (complete) wake(barrier);
}

// ---- tiles on their way

struct TileCopy {
  char* to;
  TensorMap map;
  int32_t at[TensorMap::most];
  uint64_t* barrier;
};
std::array<TileCopy, 64> copies;  // in fixed memory, as in machine.h
size_t copy_count = 0;
bool swizzle_left_out = false;

// Which thread wrote a piece of shared memory without a fence since; 0 where none did.
std::array<uint16_t, (size_t{256} << 10) / piece_bytes> unfenced;

uint32_t bytes_of(const TensorMap& map) {
  uint32_t bytes = element_bytes;
  for (int i = 0; i < map.rank; i++) bytes *= map.box[i];
  return bytes;
}

// body(row, offset in the tensor in bytes, whether it lies in the tensor) for each row of the innermost dimension.
template <class Body>
void each_row(const TensorMap& map, const int32_t* at, const Body& body) {
  const uint32_t rows = bytes_of(map) / (map.box[0] * element_bytes);
  for (uint32_t row = 0; row < rows; row++) {
    uint32_t rest = row;
    int64_t offset = 0;
    bool exists = true;
    for (int i = 1; i < map.rank; i++) {
      const int64_t index = at[i] + static_cast<int64_t>(rest % map.box[i]);
      rest /= map.box[i];
      exists = exists && index >= 0 && index < static_cast<int64_t>(map.sizes[i]);
      offset += index * static_cast<int64_t>(map.strides[i]);
    }
    body(row, offset, exists);
  }
}

void land(const TileCopy& copy) {
  const TensorMap& map = copy.map;
  const uint32_t start = shared_address(copy.to);
  each_row(map, copy.at, [&](uint32_t row, int64_t offset, bool exists) {
    for (uint32_t j = 0; j < map.box[0]; j++) {
      const int64_t column = copy.at[0] + static_cast<int64_t>(j);
      const bool inside = exists && column >= 0 && column < static_cast<int64_t>(map.sizes[0]);
      const uint32_t address = start + (row * map.box[0] + j) * element_bytes;
      *reinterpret_cast<uint16_t*>(
          at_shared_address(map.swizzled && !swizzle_left_out ? swizzled_address(address) : address)) =
          inside ? *reinterpret_cast<const uint16_t*>(map.from + offset + column * element_bytes) : uint16_t{0};
    }
  });
}

// A tile is copied by nobody's thread: behind what the thread that asked for it had done, and before what goes on behind
// the barrier, but not before what that thread does next. So the tiles of each barrier have a clock of their own; in two
// sets, as those of threads are.
std::array<std::array<std::optional<Clock>, 32>, 2> clocks;
size_t block_count = 0;

const Clock& clock_of(const uint64_t* barrier) {
  auto& of_block = clocks[block_count % clocks.size()];
  auto& clock = of_block[shared_address(barrier) / sizeof *barrier % of_block.size()];
  if (!clock) clock = Clock::fresh();
  return *clock;
}

void note_accesses(void* to, const TensorMap& map, const int32_t* at, char* order, const Clock& clock,
                   const void* code) {
  const Clock own = Clock::current();
  release(to);
  clock.resume();
  acquire(to);
  const int64_t first = std::max(at[0], 0);
  const int64_t end = std::min<int64_t>(at[0] + int64_t{map.box[0]}, static_cast<int64_t>(map.sizes[0]));
  each_row(map, at, [&](uint32_t, int64_t offset, bool exists) {
    if (!exists || first >= end) return;
    const char* const from = map.from + offset + first * element_bytes;
    const size_t bytes = static_cast<size_t>(end - first) * element_bytes;
    reads(from, bytes);
    note_access(from, bytes, false, code);
  });
  writes(to, bytes_of(map));
  release(order);
  own.resume();
}

bool land_all_of(uint64_t* barrier) {
  const Unseen unseen;
  auto state = std::bit_cast<BarrierState>(*barrier);
  size_t kept = 0;
  for (size_t i = 0; i < copy_count; i++) {
    if (copies[i].barrier != barrier) {
      copies[kept++] = copies[i];
      continue;
    }
    land(copies[i]);
    state.bytes -= static_cast<int32_t>(bytes_of(copies[i].map));
  }
  const bool any = kept < copy_count;
  copy_count = kept;
  if (any) keep(barrier, state);
  return any;
}

}  // namespace

TensorMap encode_tensor_map(const void* from, int rank, const uint64_t* sizes, const uint64_t* strides,
                            const uint32_t* box, bool swizzled) {
  TensorMap map;
  require_aligned(from, piece_bytes);
  require(rank >= 1 && rank <= TensorMap::most, "tensor map: ", rank, " dimensions");
  map.from = static_cast<const char*>(from);
  map.rank = rank;
  map.swizzled = swizzled;
  for (int i = 0; i < rank; i++) {
    map.sizes[i] = sizes[i];
    map.box[i] = box[i];
    if (i > 0) map.strides[i] = strides[i - 1];
    require(sizes[i] >= 1 && sizes[i] <= uint64_t{1} << 32, "tensor map: a size of ", sizes[i]);
    require(box[i] >= 1 && box[i] <= 256, "tensor map: a box of ", box[i]);
    require(map.strides[i] % piece_bytes == 0 && map.strides[i] < uint64_t{1} << 40, "tensor map: a stride of ",
            map.strides[i]);
  }
  require(box[0] * element_bytes % piece_bytes == 0, "tensor map: rows of ", box[0] * element_bytes, " bytes");
  require(!swizzled || box[0] * element_bytes <= 128, "tensor map: rows of more than the swizzle's 128 bytes");
  return map;
}

void initialize_barrier(uint64_t* barrier, int arrivals) {
  require_aligned(barrier, sizeof(uint64_t));
  require(is_shared(barrier), "mbarrier: not in shared memory");
  require(arrivals >= 1 && arrivals < 1 << 12, "mbarrier: ", arrivals, " arrivals");
  writes(barrier, sizeof *barrier);
  note_write(barrier);
  BarrierState state{initialized, 0, 0, 0, 0};
  state.expected = static_cast<uint32_t>(arrivals) & 0xfffu;
  state.missing = state.expected;
  *barrier = std::bit_cast<uint64_t>(state);
}

void arrive_at_barrier(uint64_t* barrier, int bytes) {
  BarrierState state = state_of(barrier);
  if (state.missing == 0 && land_all_of(barrier)) state = state_of(barrier);  // a tile may land at any time
  require(state.missing > 0, "mbarrier: more arrivals than it expects");
  release(order_of(barrier, state.phase));
  state.missing = (state.missing - 1) & 0xfffu;
  state.bytes += bytes;
  keep(barrier, state);
}

void wait_at_barrier(uint64_t* barrier, uint32_t parity, SourceLine where) {
  if (is_left_out(where) || are_waits_left_out()) return;
  while (state_of(barrier).phase == parity) sleep_until_woken(barrier, where);
  acquire(order_of(barrier, parity));
}

void copy_tile(void* to, const TensorMap& map, const int32_t* coordinates, uint64_t* barrier) {
  const uint32_t bytes = bytes_of(map);
  require_aligned(to, 128);
  require(is_shared(to) && is_shared(static_cast<char*>(to) + bytes - 1), "TMA: a target outside shared memory");
  require(copy_count < copies.size(), "TMA: more tiles on their way than expected");
  const BarrierState state = state_of(barrier);
  require(!is_unfenced(shared_address(barrier)), "TMA: a barrier that no fence has made visible to it");
  note_accesses(to, map, coordinates, order_of(barrier, state.phase), clock_of(barrier), __builtin_return_address(0));
  const Unseen unseen;
  std::memset(to, 0xff, bytes);
  TileCopy& copy = copies[copy_count++];
  copy = {static_cast<char*>(to), map, {}, barrier};
  std::copy_n(coordinates, map.rank, copy.at);
}

void note_write(const void* at) {
  if (is_shared(at)) unfenced[shared_address(at) / piece_bytes] = static_cast<uint16_t>(this_thread().index.x + 1);
}
void fence_async_proxy() {
  const auto own = static_cast<uint16_t>(this_thread().index.x + 1);
  std::replace(unfenced.begin(), unfenced.end(), own, uint16_t{0});
}
bool is_unfenced(uint32_t address) { return unfenced[address / piece_bytes] != 0; }

void begin_bulk_copies() {
  block_count++;
  copy_count = 0;
  unfenced.fill(0);
}
void end_bulk_copies() {
  require(copy_count == 0, "the block ended while ", copy_count, " tiles were on their way to its memory");
}
bool land_a_tile() {
  const auto end = copies.begin() + static_cast<std::ptrdiff_t>(copy_count);
  const auto awaited = std::find_if(copies.begin(), end, [](const TileCopy& copy) { return is_awaited(copy.barrier); });
  return awaited != end && land_all_of(awaited->barrier);
}

void leave_out_swizzle(bool leave_out) { swizzle_left_out = leave_out; }

}  // namespace llama_tp::emulation
