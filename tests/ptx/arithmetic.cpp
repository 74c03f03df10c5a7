// What the lanes of a warp compute, each by itself.
#include "base/error.h"
#include "ptx/instructions.h"
#include "ptx/operations.h"

namespace llama_tp::ptx {

namespace {

// ---- forms: what the operands are

template <class To, class From, class F>
void unary(Warp& warp, const Instruction& i, uint32_t lanes) {
  Lanes& d = warp[i.operands[0]];
  const Lanes& a = warp[i.operands[1]];
  each_lane(lanes, [&](int lane) { d.set(lane, static_cast<To>(F{}(a.get<From>(lane)))); });
}

template <class To, class From, class F>
void binary(Warp& warp, const Instruction& i, uint32_t lanes) {
  Lanes& d = warp[i.operands[0]];
  const Lanes &a = warp[i.operands[1]], &b = warp[i.operands[2]];
  each_lane(lanes, [&](int lane) { d.set(lane, static_cast<To>(F{}(a.get<From>(lane), b.get<From>(lane)))); });
}

template <class To, class From, class F>
void ternary(Warp& warp, const Instruction& i, uint32_t lanes) {
  Lanes& d = warp[i.operands[0]];
  const Lanes &a = warp[i.operands[1]], &b = warp[i.operands[2]], &c = warp[i.operands[3]];
  each_lane(lanes, [&](int lane) {
    d.set(lane, static_cast<To>(F{}(a.get<From>(lane), b.get<From>(lane), c.get<To>(lane))));
  });
}

// The amount of a shift has 32 bits.
template <class Value, class F>
void shift(Warp& warp, const Instruction& i, uint32_t lanes) {
  Lanes& d = warp[i.operands[0]];
  const Lanes &a = warp[i.operands[1]], &b = warp[i.operands[2]];
  each_lane(lanes, [&](int lane) { d.set(lane, F{}(a.get<Value>(lane), b.get<uint32_t>(lane))); });
}

template <class Value, class F>
void compare(Warp& warp, const Instruction& i, uint32_t lanes) {
  const Lanes &a = warp[i.operands[1]], &b = warp[i.operands[2]];
  uint32_t where = 0;
  each_lane(lanes, [&](int lane) { where |= uint32_t{F{}(a.get<Value>(lane), b.get<Value>(lane))} << lane; });
  uint64_t& d = warp.predicate(i.operands[0]);
  d = (d & ~lanes) | where;
}

template <class Value>
void select(Warp& warp, const Instruction& i, uint32_t lanes) {
  Lanes& d = warp[i.operands[0]];
  const Lanes &a = warp[i.operands[1]], &b = warp[i.operands[2]];
  const auto where = static_cast<uint32_t>(warp.predicate(i.operands[3]));
  each_lane(lanes, [&](int lane) { d.set(lane, (where >> lane & 1) != 0 ? a.get<Value>(lane) : b.get<Value>(lane)); });
}

template <class F>
void of_predicates(Warp& warp, const Instruction& i, uint32_t lanes) {
  uint64_t& d = warp.predicate(i.operands[0]);
  const uint64_t a = warp.predicate(i.operands[1]), b = i.operands.size() > 2 ? warp.predicate(i.operands[2]) : 0;
  d = (d & ~lanes) | (F{}(a, b) & lanes);
}

// ---- instructions of their own form

// Four bytes of the eight of a and b (b is the upper), by the last four digits of c.
void permute_bytes(Warp& warp, const Instruction& i, uint32_t lanes) {
  each_lane(lanes, [&](int lane) {
    const uint64_t from =
        uint64_t{warp[i.operands[2]].get<uint32_t>(lane)} << 32 | warp[i.operands[1]].get<uint32_t>(lane);
    const auto digits = warp[i.operands[3]].get<uint32_t>(lane);
    uint32_t to = 0;
    for (uint32_t n = 0; n < 4; n++) {
      const uint32_t digit = digits >> 4 * n & 15;
      require(digit < 8, "prmt: copies of a sign are not known");
      to |= static_cast<uint32_t>(from >> 8 * digit & 255) << 8 * n;
    }
    warp[i.operands[0]].set(lane, to);
  });
}

// The lowest bits of a in the place of as many of b.
template <class Value>
void insert_bits(Warp& warp, const Instruction& i, uint32_t lanes) {
  each_lane(lanes, [&](int lane) {
    const auto at = warp[i.operands[3]].get<uint32_t>(lane), bits = warp[i.operands[4]].get<uint32_t>(lane);
    const Value mask = ShiftLeft{}(static_cast<Value>(ShiftLeft{}(Value{1}, bits) - 1), at);
    const auto a = warp[i.operands[1]].get<Value>(lane), b = warp[i.operands[2]].get<Value>(lane);
    warp[i.operands[0]].set(lane, static_cast<Value>((ShiftLeft{}(a, at) & mask) | (b & ~mask)));
  });
}

// mov, and with braces the two halves of a register to two, or two to one.
template <class Value, class Half>
void move(Warp& warp, const Instruction& i, uint32_t lanes) {
  if (i.operands.size() == 2) return unary<Value, Value, Same>(warp, i, lanes);
  require(i.operands.size() == 3, "a move of more than two parts");
  constexpr int bits = 8 * sizeof(Half);
  each_lane(lanes, [&](int lane) {
    if (i.first_in_braces == 0) {
      const auto whole = warp[i.operands[2]].get<Value>(lane);
      warp[i.operands[0]].set(lane, static_cast<Half>(whole));
      warp[i.operands[1]].set(lane, static_cast<Half>(whole >> bits));
    } else {
      const auto low = warp[i.operands[1]].get<Half>(lane), high = warp[i.operands[2]].get<Half>(lane);
      warp[i.operands[0]].set(lane, static_cast<Value>(static_cast<Value>(high) << bits | low));
    }
  });
}

// ---- the table

template <class Value>
std::string suffix() {
  const char kind = std::is_floating_point_v<Value> ? 'f' : std::is_signed_v<Value> ? 's' : 'u';
  return std::string(".") + kind + std::to_string(8 * sizeof(Value));
}

// f.operator()<Value>(".s32") for each of the types.
template <class... Values, class F>
void for_types(const F& f) {
  (f.template operator()<Values>(suffix<Values>()), ...);
}
template <class F>
void for_integers(const F& f) {
  for_types<uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t>(f);
}
template <class F>
void for_bits(const F& f) {
  f.template operator()<uint16_t>(std::string(".b16"));
  f.template operator()<uint32_t>(std::string(".b32"));
  f.template operator()<uint64_t>(std::string(".b64"));
}

void add_integers(Table& table) {
  for_integers([&]<class T>(const std::string& type) {
    table["add" + type] = {binary<T, T, Add>};
    table["sub" + type] = {binary<T, T, Subtract>};
    table["mul.lo" + type] = {binary<T, T, Multiply>};
    table["mad.lo" + type] = {ternary<T, T, MultiplyAdd>};
    table["div" + type] = {binary<T, T, Divide>};
    table["rem" + type] = {binary<T, T, Remainder>};
    table["min" + type] = {binary<T, T, Least>};
    table["max" + type] = {binary<T, T, Most>};
    table["neg" + type] = {unary<T, T, Negate>};
    table["shr" + type] = {shift<T, ShiftRight>};
  });
  table["mul.wide.s32"] = {binary<int64_t, int32_t, MultiplyWide>};
  table["mul.wide.u32"] = {binary<uint64_t, uint32_t, MultiplyWide>};
  table["mul.wide.u16"] = {binary<uint32_t, uint16_t, MultiplyWide>};
  table["mul.wide.s16"] = {binary<int32_t, int16_t, MultiplyWide>};
  table["mad.wide.s32"] = {ternary<int64_t, int32_t, MultiplyAdd>};
  table["mad.wide.u32"] = {ternary<uint64_t, uint32_t, MultiplyAdd>};
  table["mul.hi.s32"] = {binary<int32_t, int32_t, MultiplyHigh>};
  table["mul.hi.u32"] = {binary<uint32_t, uint32_t, MultiplyHigh>};
}

void add_bits(Table& table) {
  for_bits([&]<class T>(const std::string& type) {
    table["and" + type] = {binary<T, T, And>};
    table["or" + type] = {binary<T, T, Or>};
    table["xor" + type] = {binary<T, T, Xor>};
    table["not" + type] = {unary<T, T, Invert>};
    table["shl" + type] = {shift<T, ShiftLeft>};
    table["shr" + type] = {shift<T, ShiftRight>};
    table["selp" + type] = {select<T>};
    table["setp.eq" + type] = {compare<T, Equal>};
    table["setp.ne" + type] = {compare<T, Unequal>};
  });
  for_types<uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t, float, double>(
      [&]<class T>(const std::string& type) { table["selp" + type] = {select<T>}; });
  table["bfi.b32"] = {insert_bits<uint32_t>};
  table["bfi.b64"] = {insert_bits<uint64_t>};
  table["prmt.b32"] = {permute_bytes};
  for (const char* type : {".u16", ".s16", ".b16"}) table[std::string("mov") + type] = {move<uint16_t, uint8_t>};
  for (const char* type : {".u32", ".s32", ".b32", ".f32"})
    table[std::string("mov") + type] = {move<uint32_t, uint16_t>};
  for (const char* type : {".u64", ".s64", ".b64", ".f64"})
    table[std::string("mov") + type] = {move<uint64_t, uint32_t>};
  table["mov.pred"] = {of_predicates<decltype([](uint64_t a, uint64_t) { return a; })>};
  table["and.pred"] = {of_predicates<And>};
  table["or.pred"] = {of_predicates<Or>};
  table["xor.pred"] = {of_predicates<Xor>};
  table["not.pred"] = {of_predicates<Not>};
}

void add_floats(Table& table) {
  for_types<float, double>([&]<class T>(const std::string& type) {
    for (const char* rounding : {"", ".rn"}) {
      table[std::string("add") + rounding + type] = {binary<T, T, Add>};
      table[std::string("sub") + rounding + type] = {binary<T, T, Subtract>};
      table[std::string("mul") + rounding + type] = {binary<T, T, Multiply>};
    }
    table["fma.rn" + type] = {ternary<T, T, Fused>};
    table["div.rn" + type] = {binary<T, T, Divide>};
    table["rcp.rn" + type] = {unary<T, T, Inverse>};
    table["sqrt.rn" + type] = {unary<T, T, SquareRoot>};
    table["neg" + type] = {unary<T, T, Negate>};
    table["abs" + type] = {unary<T, T, Absolute>};
    table["min" + type] = {binary<T, T, LeastOfFloats>};
    table["max" + type] = {binary<T, T, MostOfFloats>};
    table["setp.num" + type] = {compare<T, BothNumbers>};
    table["setp.equ" + type] = {compare<T, Unordered<Unequal>>};
    table["setp.neu" + type] = {compare<T, Unordered<Equal>>};
    table["setp.ltu" + type] = {compare<T, Unordered<GreaterOrEqual>>};
    table["setp.leu" + type] = {compare<T, Unordered<Greater>>};
    table["setp.gtu" + type] = {compare<T, Unordered<LessOrEqual>>};
    table["setp.geu" + type] = {compare<T, Unordered<Less>>};
  });
  table["fma.rm.f32"] = {ternary<float, float, FusedDown>};
  table["ex2.approx.ftz.f32"] = {unary<float, float, PowerOfTwo>};
  table["rcp.approx.ftz.f32"] = {unary<float, float, ApproximateInverse>};
  table["rcp.approx.ftz.f64"] = {unary<double, double, InverseOfUpperHalf>};
  table["cvt.sat.f32.f32"] = {unary<float, float, Saturate>};
  table["cvt.rn.bf16x2.f32"] = {binary<uint32_t, float, PairOfBf16>};
}

void add_conversions(Table& table) {
  for_integers([&]<class To>(const std::string& to) {
    for_integers([&]<class From>(const std::string& from) { table["cvt" + to + from] = {unary<To, From, Same>}; });
    for_types<float, double>([&]<class From>(const std::string& from) {
      table["cvt.rzi" + to + from] = {unary<To, From, Truncate<To>>};
      table["cvt.rn" + from + to] = {unary<From, To, Same>};
    });
  });
  table["cvt.rni.s32.f32"] = {unary<int32_t, float, Nearest>};
  table["cvt.f64.f32"] = {unary<double, float, Same>};
  table["cvt.rn.f32.f64"] = {unary<float, double, Same>};
}

}  // namespace

void add_arithmetic(Table& table) {
  add_integers(table);
  add_bits(table);
  add_floats(table);
  add_conversions(table);
  for_types<uint16_t, int16_t, uint32_t, int32_t, uint64_t, int64_t, float, double>(
      [&]<class T>(const std::string& type) {
        table["setp.eq" + type] = {compare<T, Equal>};
        table["setp.ne" + type] = {compare<T, Unequal>};
        table["setp.lt" + type] = {compare<T, Less>};
        table["setp.le" + type] = {compare<T, LessOrEqual>};
        table["setp.gt" + type] = {compare<T, Greater>};
        table["setp.ge" + type] = {compare<T, GreaterOrEqual>};
      });
}

}  // namespace llama_tp::ptx
