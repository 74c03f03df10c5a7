// How lanes go on, wait for each other and exchange values.
#include <algorithm>

#include "base/error.h"
#include "ptx/instructions.h"

namespace llama_tp::ptx {

namespace {

// d | p, a, b, c, mask: from the lane whose number is a's ^ b, or is b.
template <bool by_number>
void shuffle(Warp& warp, const Instruction& i, uint32_t lanes) {
  require(i.operands.size() == 6, "shfl: its operands are not the known ones");
  require(warp[i.operands[4]].get<uint32_t>(0) == 31, "shfl: only of a whole warp");
  require(warp[i.operands[5]].get<uint32_t>(0) == all_lanes, "shfl: not of all lanes");
  const Lanes from = warp[i.operands[2]], which = warp[i.operands[3]];
  each_lane(lanes, [&](int lane) {
    const uint32_t b = which.get<uint32_t>(lane) & 31;
    warp[i.operands[0]].set(lane,
                            from.get<uint32_t>(static_cast<int>(by_number ? b : b ^ static_cast<uint32_t>(lane))));
  });
  warp.predicate(i.operands[1]) = all_lanes;
}

void ballot(Warp& warp, const Instruction& i, uint32_t lanes) {
  require(warp[i.operands[2]].get<uint32_t>(0) == all_lanes, "vote: not of all lanes");
  const auto where = static_cast<uint32_t>(warp.predicate(i.operands[1]));
  each_lane(lanes, [&](int lane) { warp[i.operands[0]].set(lane, where); });
}

void largest(Warp& warp, const Instruction& i, uint32_t lanes) {
  require(warp[i.operands[2]].get<uint32_t>(0) == all_lanes, "redux: not of all lanes");
  const Lanes from = warp[i.operands[1]];
  uint32_t most = 0;
  each_lane(lanes, [&](int lane) { most = std::max(most, from.get<uint32_t>(lane)); });
  each_lane(lanes, [&](int lane) { warp[i.operands[0]].set(lane, most); });
}

// Done by all threads when they have come.
void block_barrier(Warp& warp, const Instruction& i, uint32_t) {
  require(i.operands.size() == 1 && warp[i.operands[0]].words[0] == 0, "bar.sync: another barrier than the block's");
}

// The grids ahead have ended.
void wait_for_grids(Warp& warp, const Instruction&, uint32_t lanes) { warp.must_wait &= ~lanes; }

}  // namespace

void add_flow(Table& table) {
  table["shfl.sync.bfly.b32"] = {shuffle<false>, Flow::together};
  table["shfl.sync.idx.b32"] = {shuffle<true>, Flow::together};
  table["vote.sync.ballot.b32"] = {ballot, Flow::together};
  table["redux.sync.max.u32"] = {largest, Flow::together};
  table["bar.warp.sync"] = {nothing, Flow::together};
  table["bar.sync"] = {block_barrier, Flow::barrier};
  table["bra"] = table["bra.uni"] = {nothing, Flow::branch};
  table["griddepcontrol.wait"] = {wait_for_grids};
  table["ret"] = table["exit"] = {nothing, Flow::end};
  // These change when a grid begins, what the nearest cache holds, and who has registers.
  for (const char* name : {"griddepcontrol.launch_dependents", "prefetch.global.L2"}) table[name] = {nothing};
  for (const char* name : {"setmaxnreg.inc.sync.aligned.u32", "setmaxnreg.dec.sync.aligned.u32"})
    table[name] = {nothing, Flow::together};
}

}  // namespace llama_tp::ptx
