// Loads and stores of the four kinds of memory, and additions in shared memory. Global, local and generic addresses are
// those of the host; those of shared memory and of parameters count from its beginning.
#include "base/error.h"
#include "ptx/global_memory.h"
#include "ptx/instructions.h"

namespace llama_tp::ptx {

namespace {

enum class Space : uint8_t { parameters, global, shared, local };

template <Space space>
char* memory(Warp& warp, int lane, uint64_t address, size_t bytes, size_t alignment) {
  if constexpr (space == Space::shared)
    return warp.block().shared(static_cast<uint32_t>(address), bytes, alignment);
  else if constexpr (space == Space::global)
    return global_memory(address, bytes, alignment);
  else if constexpr (space == Space::local)
    return warp.local(lane, address, bytes, alignment);
  const auto& parameters = warp.block().grid().parameters;
  require(address + bytes <= parameters.size(), "a load behind the kernel's parameters");
  return const_cast<char*>(parameters.data()) + address;
}

// {d, …}, [a]
template <Space space, class Value, int count>
void load(Warp& warp, const Instruction& i, uint32_t lanes) {
  if (space == Space::global) warp.expect_to_have_waited(lanes);
  in_turn(lanes, [&](int lane) {
    const char* from =
        memory<space>(warp, lane, warp.address(i, count, lane), count * sizeof(Value), count * sizeof(Value));
    for (size_t n = 0; n < count; n++) {
      Value value;
      std::memcpy(&value, from + n * sizeof(Value), sizeof(Value));
      if constexpr (std::is_signed_v<Value> && sizeof(Value) < 4)
        warp[i.operands[n]].set(lane, int32_t{value});
      else
        warp[i.operands[n]].set(lane, value);
    }
  });
}

// [a], {b, …}
template <Space space, class Value, int count>
void store(Warp& warp, const Instruction& i, uint32_t lanes) {
  if (space == Space::global) warp.expect_to_have_waited(lanes);
  in_turn(lanes, [&](int lane) {
    char* to = memory<space>(warp, lane, warp.address(i, 0, lane), count * sizeof(Value), count * sizeof(Value));
    for (size_t n = 0; n < count; n++) {
      const auto value = warp[i.operands[n + 1]].get<Value>(lane);
      std::memcpy(to + n * sizeof(Value), &value, sizeof(Value));
    }
  });
}

// d, [a], b, or without d: one lane after the other.
template <class Value, int of_address>
void add_in_shared(Warp& warp, const Instruction& i, uint32_t lanes) {
  in_turn(lanes, [&](int lane) {
    char* at = warp.block().shared(static_cast<uint32_t>(warp.address(i, of_address, lane)), sizeof(Value));
    Value value;
    std::memcpy(&value, at, sizeof value);
    if constexpr (of_address > 0) warp[i.operands[0]].set(lane, value);
    value += warp[i.operands[of_address + 1]].get<Value>(lane);
    std::memcpy(at, &value, sizeof value);
  });
}

template <Space space, class Value>
void add_of_type(Table& table, const std::string& where, const std::string& type) {
  for (const char* kind : {"", ".nc"}) {
    if (*kind != '\0' && space != Space::global) continue;
    table["ld" + where + kind + type] = {load<space, Value, 1>};
    table["ld" + where + kind + ".v2" + type] = {load<space, Value, 2>};
    if constexpr (sizeof(Value) <= 4) table["ld" + where + kind + ".v4" + type] = {load<space, Value, 4>};
  }
  table["st" + where + type] = {store<space, Value, 1>};
  table["st" + where + ".v2" + type] = {store<space, Value, 2>};
  if constexpr (sizeof(Value) <= 4) table["st" + where + ".v4" + type] = {store<space, Value, 4>};
}

template <Space space>
void add_space(Table& table, const std::string& where) {
  add_of_type<space, uint8_t>(table, where, ".u8");
  add_of_type<space, int8_t>(table, where, ".s8");
  for (const char* type : {".u16", ".b16"}) add_of_type<space, uint16_t>(table, where, type);
  add_of_type<space, int16_t>(table, where, ".s16");
  for (const char* type : {".u32", ".s32", ".b32", ".f32"}) add_of_type<space, uint32_t>(table, where, type);
  for (const char* type : {".u64", ".s64", ".b64", ".f64"}) add_of_type<space, uint64_t>(table, where, type);
}

// The kernel's parameters have a generic address, too (__grid_constant__).
void generic_address_of_parameter(Warp& warp, const Instruction& i, uint32_t lanes) {
  const auto from = reinterpret_cast<uint64_t>(warp.block().grid().parameters.data());
  each_lane(lanes, [&](int lane) { warp[i.operands[0]].set(lane, from + warp[i.operands[1]].words[lane]); });
}

void same_address(Warp& warp, const Instruction& i, uint32_t lanes) {
  each_lane(lanes, [&](int lane) { warp[i.operands[0]].words[lane] = warp[i.operands[1]].words[lane]; });
}

}  // namespace

void add_memory_accesses(Table& table) {
  add_space<Space::parameters>(table, ".param");
  add_space<Space::global>(table, ".global");
  add_space<Space::shared>(table, ".shared");
  add_space<Space::local>(table, ".local");
  table["ld.global.nc.L1::no_allocate.v4.u32"] = {load<Space::global, uint32_t, 4>};
  table["atom.shared.add.u32"] = {add_in_shared<uint32_t, 1>};
  table["atom.shared.add.u64"] = {add_in_shared<uint64_t, 1>};
  table["red.shared.add.u32"] = {add_in_shared<uint32_t, 0>};  // nvcc 12's, where the sum before is not used
  table["red.shared.add.u64"] = {add_in_shared<uint64_t, 0>};
  table["cvta.param.u64"] = {generic_address_of_parameter};
  for (const char* name : {"cvta.to.global.u64", "cvta.to.local.u64", "cvta.local.u64"}) table[name] = {same_address};
}

}  // namespace llama_tp::ptx
