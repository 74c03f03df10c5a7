// Copies to shared memory that go on while a thread does: cp.async, and TMA with barriers in memory.
#include <algorithm>

#include "base/error.h"
#include "ptx/global_memory.h"
#include "ptx/instructions.h"
#include "ptx/tensor_map.h"

namespace llama_tp::ptx {

namespace {

uint32_t shared_address(Warp& warp, const Instruction& i, size_t n, int lane) {
  return static_cast<uint32_t>(warp.address(i, n, lane));
}

// ---- cp.async

// [to], [from], 16, bytes: the rest of the 16 are zeros.
void copy_async(Warp& warp, const Instruction& i, uint32_t lanes) {
  warp.expect_to_have_waited(lanes);
  in_turn(lanes, [&](int lane) {
    const auto bytes = warp[i.operands[3]].get<uint32_t>(lane);
    require(bytes == 0 || bytes == 16, "a copy of a part of 16 bytes");
    char* to = warp.block().shared(shared_address(warp, i, 0, lane), 16);
    const char* from = bytes == 0 ? nullptr : global_memory(warp.address(i, 1, lane), 16, 16);
    std::memset(to, 0xff, 16);
    warp.copies.push_back({lane, to, from, warp.groups_of_copies[lane]});
  });
}

void commit_copies(Warp& warp, const Instruction&, uint32_t lanes) {
  in_turn(lanes, [&](int lane) { warp.groups_of_copies[lane]++; });
}

// open: the latest groups that need not have landed.
void wait_for_copies(Warp& warp, const Instruction& i, uint32_t lanes) {
  std::erase_if(warp.copies, [&](const Copy& copy) {
    const auto open = static_cast<int>(warp[i.operands[0]].words[copy.lane]);
    if ((lanes >> copy.lane & 1) == 0 || copy.group >= warp.groups_of_copies[copy.lane] - open) return false;
    if (copy.from == nullptr)
      std::memset(copy.to, 0, 16);
    else
      std::memcpy(copy.to, copy.from, 16);
    return true;
  });
}

// ---- barriers in memory

void initialize_barrier(Warp& warp, const Instruction& i, uint32_t lanes) {
  in_turn(lanes, [&](int lane) {
    const uint32_t address = shared_address(warp, i, 0, lane);
    warp.block().shared(address, 8);
    const auto arrivals = warp[i.operands[1]].get<uint32_t>(lane);
    warp.block().barriers[address] = {.expected = arrivals, .pending = arrivals};
  });
}

// _, [barrier], and the bytes that are announced.
void arrive(Warp& warp, const Instruction& i, uint32_t lanes) {
  in_turn(lanes, [&](int lane) {
    MemoryBarrier& barrier = warp.block().barrier(shared_address(warp, i, 1, lane));
    require(barrier.pending > 0, "more arrivals than the barrier was initialized for");
    barrier.pending--;
    if (i.operands.size() > 2) barrier.bytes += warp[i.operands[2]].get<uint32_t>(lane);
    barrier.end_phase_if_complete();
  });
}

// p, [barrier], parity: done when the phase has ended.
void phase_ended(Warp& warp, const Instruction& i, uint32_t lanes) { warp.predicate(i.operands[0]) |= lanes; }

// ---- tiles

// [to], [map, {x, y, z}], [barrier]
void copy_tile(Warp& warp, const Instruction& i, uint32_t lanes) {
  warp.expect_to_have_waited(lanes);
  in_turn(lanes, [&](int lane) {
    const auto coordinate = [&](size_t n) { return warp[i.operands[n]].get<int32_t>(lane); };
    const TileCopy tile{.map = warp.address(i, 1, lane),
                        .x = coordinate(2),
                        .y = coordinate(3),
                        .z = coordinate(4),
                        .to = shared_address(warp, i, 0, lane),
                        .barrier = shared_address(warp, i, 5, lane)};
    require(tile.map % 64 == 0, "a map that does not begin on 64 bytes");
    warp.block().barrier(tile.barrier);
    const auto& map = *reinterpret_cast<const TensorMap*>(tile.map);
    const size_t bytes = size_t{2} * map.box[0] * map.box[1] * map.box[2];
    std::memset(warp.block().shared(tile.to, bytes, 1024), 0xff, bytes);
    warp.block().tiles.push_back(tile);
  });
}

}  // namespace

void land(Block& block, const TileCopy& tile) {
  const auto& map = *reinterpret_cast<const TensorMap*>(tile.map);
  const auto inside = [](int64_t at, uint64_t size) { return at >= 0 && at < static_cast<int64_t>(size); };
  uint32_t to = tile.to;
  for (uint32_t k = 0; k < map.box[2]; k++)
    for (uint32_t j = 0; j < map.box[1]; j++)
      for (uint32_t i = 0; i < map.box[0]; i++, to += 2) {
        const int64_t x = int64_t{tile.x} + i, y = int64_t{tile.y} + j, z = int64_t{tile.z} + k;
        uint16_t element = 0;
        if (inside(x, map.sizes[0]) && inside(y, map.sizes[1]) && inside(z, map.sizes[2])) {
          const uint64_t from = map.from + static_cast<uint64_t>(x) * 2 + static_cast<uint64_t>(y) * map.strides[0] +
                                static_cast<uint64_t>(z) * map.strides[1];
          std::memcpy(&element, global_memory(from, 2, 2), 2);
        }
        std::memcpy(block.shared(swizzled(to), 2), &element, 2);
      }
  MemoryBarrier& barrier = block.barrier(tile.barrier);
  barrier.bytes -= int64_t{2} * map.box[0] * map.box[1] * map.box[2];
  barrier.end_phase_if_complete();
}

void add_copies(Table& table) {
  table["cp.async.cg.shared.global"] = {copy_async};
  table["cp.async.commit_group"] = {commit_copies};
  table["cp.async.wait_group"] = {wait_for_copies};
  table["mbarrier.init.shared::cta.b64"] = {initialize_barrier};
  table["mbarrier.arrive.shared::cta.b64"] = {arrive};
  table["mbarrier.arrive.expect_tx.shared::cta.b64"] = {arrive};
  table["mbarrier.try_wait.parity.shared::cta.b64"] = {phase_ended, Flow::phase};
  table["fence.proxy.async.shared::cta"] = {nothing};
  table["cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"] = {copy_tile};
}

}  // namespace llama_tp::ptx
