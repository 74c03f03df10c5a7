// Matrices of bf16 with f32 sums: of a warp (ldmatrix, mma.sync), and of a warpgroup with factors in shared memory
// (wgmma), of which each warp has 16 of the 64 rows. Products are done at once and summed in order of k; that a kernel
// waits for them where it must is what the emulation tests.
#include "base/error.h"
#include "ptx/instructions.h"

namespace llama_tp::ptx {

namespace {

float low_of(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float high_of(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

// {d0, …, d3}, [row]: lane 8m + r has the address of row r of matrix m; lane l gets elements 2(l%4) and the next of row
// l/4, or of column l/4.
template <bool transposed>
void load_matrices(Warp& warp, const Instruction& i, uint32_t lanes) {
  const char* rows[warp_size];
  each_lane(lanes,
            [&](int lane) { rows[lane] = warp.block().shared(static_cast<uint32_t>(warp.address(i, 4, lane)), 16); });
  const auto element = [&](int matrix, int row, int column) {
    uint16_t value;
    std::memcpy(&value, rows[matrix * 8 + row] + 2 * column, 2);
    return uint32_t{value};
  };
  for (int lane = 0; lane < warp_size; lane++)
    for (int m = 0; m < 4; m++) {
      const int row = lane / 4, column = 2 * (lane % 4);
      const uint32_t first = transposed ? element(m, column, row) : element(m, row, column),
                     second = transposed ? element(m, column + 1, row) : element(m, row, column + 1);
      warp[i.operands[static_cast<size_t>(m)]].set(lane, first | second << 16);
    }
}

// A warp's 16 rows of a factor of 16 columns, from the registers of mma.sync and wgmma.
struct Left {
  float at[16][16];
};
Left left_of(Warp& warp, const Instruction& i, size_t first) {
  Left a;
  for (int lane = 0; lane < warp_size; lane++)
    for (size_t n = 0; n < 4; n++) {
      const auto pair = warp[i.operands[first + n]].get<uint32_t>(lane);
      const size_t row = static_cast<size_t>(lane) / 4 + n % 2 * 8,
                   column = static_cast<size_t>(lane) % 4 * 2 + n / 2 * 8;
      a.at[row][column] = low_of(pair), a.at[row][column + 1] = high_of(pair);
    }
  return a;
}

// A warp's 16 rows of sums: a lane has elements (l/4, 2(l%4)), the next, and both of 8 rows below, of each 8 columns.
template <class Right>
void add_product(Warp& warp, const Instruction& i, int columns, const Left& a, const Right& b, bool add) {
  for (int n = 0; n < columns / 2; n++)
    for (int lane = 0; lane < warp_size; lane++) {
      const int row = lane / 4 + n % 4 / 2 * 8, column = n / 4 * 8 + lane % 4 * 2 + n % 2;
      Lanes& d = warp[i.operands[static_cast<size_t>(n)]];
      float sum = add ? d.get<float>(lane) : 0;
      for (int k = 0; k < 16; k++) sum += a.at[row][k] * b[k][column];
      d.set(lane, sum);
    }
}

// {d0, …, d3}, {a0, …, a3}, {b0, b1}, {c0, …, c3}: b's pairs go down a column.
void multiply(Warp& warp, const Instruction& i, uint32_t) {
  for (size_t n = 0; n < 4; n++) require(i.operands[n] == i.operands[10 + n], "mma: sums in other registers");
  float b[16][8];
  for (int lane = 0; lane < warp_size; lane++)
    for (size_t n = 0; n < 2; n++) {
      const auto pair = warp[i.operands[8 + n]].get<uint32_t>(lane);
      const size_t row = static_cast<size_t>(lane) % 4 * 2 + n * 8, column = static_cast<size_t>(lane) / 4;
      b[row][column] = low_of(pair), b[row + 1][column] = high_of(pair);
    }
  add_product(warp, i, 8, left_of(warp, i, 4), b, true);
}

// ---- factors in shared memory

// A descriptor's fields are in units of 16 bytes. With the 128-byte swizzle rows of 64 elements lie in groups of eight,
// `stride` apart; where k runs along them, its 16 columns begin within a row. Transposed, rows are those of k, and the
// next 64 columns lie `leading` apart.
class Factor {
 public:
  Factor(Block& block, uint64_t descriptor, bool transposed)
      : block_(block),
        start_(field(descriptor, 0)),
        leading_(field(descriptor, 16)),
        stride_(field(descriptor, 32)),
        transposed_(transposed) {
    require(descriptor >> 62 == 1, "wgmma: a descriptor without the 128-byte swizzle");
    require((descriptor >> 49 & 7) == 0, "wgmma: a descriptor with a base offset");
  }
  float at(uint32_t row, uint32_t k) const {
    const uint32_t linear = transposed_ ? start_ + row / 64 * leading_ + row % 64 * 2 + k / 8 * stride_ + k % 8 * 128
                                        : start_ + row / 8 * stride_ + row % 8 * 128 + k * 2;
    uint16_t element;
    std::memcpy(&element, block_.shared(swizzled(linear), 2), 2);
    return low_of(element);
  }

 private:
  static uint32_t field(uint64_t descriptor, int bit) { return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4; }
  Block& block_;
  uint32_t start_, leading_, stride_;
  bool transposed_;
};

uint64_t constant(Warp& warp, const Instruction& i, size_t n) { return warp[i.operands[n]].words[0]; }

// {d…}, a or {a0, …, a3}, b, add, 1, 1, whether a (in memory), b are transposed
template <int columns>
void multiply_warpgroup(Warp& warp, const Instruction& i, uint32_t) {
  constexpr size_t sums = columns / 2;
  const bool from_registers = i.operands.size() == sums + 4 + 5;
  require(from_registers || i.operands.size() == sums + 1 + 6, "wgmma: its operands are not the known ones");
  const size_t at_b = sums + (from_registers ? 4 : 1);
  require(constant(warp, i, at_b + 2) == 1 && constant(warp, i, at_b + 3) == 1, "wgmma: a factor of -1");
  const auto where = static_cast<uint32_t>(warp.predicate(i.operands[at_b + 1]));
  require(from_registers || where == 0 || where == all_lanes, "wgmma: some lanes add, and some do not");
  const bool add = from_registers ? constant(warp, i, at_b + 1) != 0 : where != 0;
  Left a;
  if (from_registers) {
    a = left_of(warp, i, sums);
  } else {
    const Factor factor(warp.block(), constant(warp, i, sums), constant(warp, i, at_b + 4) != 0);
    for (uint32_t row = 0; row < 16; row++)
      for (uint32_t k = 0; k < 16; k++) a.at[row][k] = factor.at(warp.number() % 4 * 16 + row, k);
  }
  const Factor factor(warp.block(), constant(warp, i, at_b), constant(warp, i, i.operands.size() - 1) != 0);
  float b[16][columns];
  for (uint32_t k = 0; k < 16; k++)
    for (uint32_t column = 0; column < columns; column++) b[k][column] = factor.at(column, k);
  add_product(warp, i, columns, a, b, add);
}

}  // namespace

void add_matrices(Table& table) {
  table["ldmatrix.sync.aligned.m8n8.x4.shared.b16"] = {load_matrices<false>, Flow::together};
  table["ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"] = {load_matrices<true>, Flow::together};
  table["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"] = {multiply, Flow::together};
  table["wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16"] = {multiply_warpgroup<64>, Flow::together};
  table["wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16"] = {multiply_warpgroup<128>, Flow::together};
  for (const char* name :
       {"wgmma.fence.sync.aligned", "wgmma.commit_group.sync.aligned", "wgmma.wait_group.sync.aligned"})
    table[name] = {nothing, Flow::together};
}

}  // namespace llama_tp::ptx
