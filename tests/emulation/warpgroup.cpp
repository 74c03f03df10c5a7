#include "emulation/warpgroup.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/error.h"
#include "emulation/bulk_copies.h"
#include "emulation/machine.h"
#include "emulation/sanitizers.h"

namespace llama_tp::emulation {

namespace {

constexpr int rows = 64, depth = 16, most_columns = 128;
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

// ---- factors in shared memory

// What the 64 bits of a descriptor say (PTX ISA: matrix descriptor), in bytes: where the factor begins, how far apart
// two neighbours in its leading and its other dimension are. With the 128-byte swizzle a neighbour is
//   not transposed: in the other dimension the next 8 rows (the leading one, of k, is within the 128 bytes);
//   transposed:     in the leading dimension the next 64 rows, in the other one the next 8 of k.
class Factor {
 public:
  Factor(uint64_t descriptor, bool transposed)
      : start_(field(descriptor, 0)),
        leading_(field(descriptor, 16)),
        stride_(field(descriptor, 32)),
        transposed_(transposed) {
    constexpr uint64_t fields = 0xc000'3fff'3fff'3fffu;
    require((descriptor & ~fields) == 0, "wgmma: a descriptor with unknown bits");
    require(descriptor >> 62 == 1, "wgmma: a descriptor without the 128-byte swizzle, which alone is emulated");
  }

  uint32_t address(int row, int k) const {
    const auto n = static_cast<uint32_t>(row), at_k = static_cast<uint32_t>(k);
    return swizzled_address(transposed_ ? start_ + n / 64 * leading_ + n % 64 * 2 + at_k / 8 * stride_ + at_k % 8 * 128
                                        : start_ + n / 8 * stride_ + n % 8 * 128 + at_k * 2);
  }
  float at(int row, int k) const {
    const uint32_t from = address(row, k);
    if (is_unfenced(from)) return nan;
    return std::bit_cast<float>(uint32_t{*reinterpret_cast<const uint16_t*>(at_shared_address(from))} << 16);
  }
  // Tells ThreadSanitizer that the lanes of each warp read their shares of a factor of so many rows.
  void note_reads(int of_rows, unsigned lane) const {
    for (unsigned piece = lane; piece < static_cast<unsigned>(of_rows) * 2; piece += 32) {
      const int i = static_cast<int>(piece);
      reads(at_shared_address(transposed_ ? address(i / 16 * 8, i % 16) : address(i / 2, i % 2 * 8)), 16);
    }
  }

 private:
  static uint32_t field(uint64_t descriptor, int bit) {
    return static_cast<uint32_t>(descriptor >> bit & 0x3fffu) << 4;
  }
  uint32_t start_, leading_, stride_;
  bool transposed_;
};

// ---- products under way

struct Product {
  int columns, group;
  bool from_registers, transposed, add;
  uint64_t a, b;
  std::array<float*, warpgroup_size> d;
  // What the accumulators hold before it: known at once where this product is the first under way on them.
  std::array<std::array<float, most_columns / 2>, warpgroup_size> held;
  std::array<std::array<uint32_t, 4>, warpgroup_size> left;
};

struct ThreadState {
  size_t issued;
  int groups;
  int open;  // of the wait it is at
  bool fenced;
};

struct Warpgroup {
  std::array<Product, 32> products;  // in fixed memory, as in machine.h
  size_t count = 0;
  std::array<ThreadState, warpgroup_size> threads{};
};
std::array<Warpgroup, 4> warpgroups;

Warpgroup& own_warpgroup() {
  const size_t number = this_thread().index.x / warpgroup_size;
  require(number < warpgroups.size(), "wgmma: more than ", warpgroups.size(), " warpgroups");
  return warpgroups[number];
}
unsigned own_place() { return this_thread().index.x % warpgroup_size; }

void note_reads(const Product& product, unsigned place) {
  if (!product.from_registers) Factor(product.a, false).note_reads(rows, place % 32);
  Factor(product.b, product.transposed).note_reads(product.columns, place % 32);
}

// Element i of a thread's accumulators: where it is in d.
int row_of(unsigned place, int i) { return static_cast<int>(place / 32 * 16 + place % 32 / 4) + i % 4 / 2 * 8; }
int column_of(unsigned place, int i) { return i / 4 * 8 + static_cast<int>(place % 4) * 2 + i % 2; }

float left_of(const Product& product, int row, int k) {
  const int lane = row % 8 * 4 + k % 8 / 2;
  const uint32_t pair =
      product.left[static_cast<size_t>(row / 16 * 32 + lane)][static_cast<size_t>(row % 16 / 8 + k / 8 * 2)];
  return std::bit_cast<float>(k % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
}

// Sums in order of k, in f32.
void carry_out(Product& product, const Product* end) {
  static float a[rows][depth], b[depth][most_columns];
  const Factor in_memory(product.from_registers ? product.b : product.a, false), right(product.b, product.transposed);
  for (int k = 0; k < depth; k++) {
    for (int i = 0; i < rows; i++) a[i][k] = product.from_registers ? left_of(product, i, k) : in_memory.at(i, k);
    for (int j = 0; j < product.columns; j++) b[k][j] = right.at(j, k);
  }
  for (unsigned place = 0; place < warpgroup_size; place++) {
    float* const d = product.d[place];
    // The next one on the same accumulators takes the result; else the registers do.
    Product* next = &product + 1;
    while (next != end && next->d[place] != d) next++;
    float* const to = next != end ? next->held[place].data() : d;
    for (int i = 0; i < product.columns / 2; i++) {
      float sum = product.add ? product.held[place][static_cast<size_t>(i)] : 0;
      for (int k = 0; k < depth; k++) sum += a[row_of(place, i)][k] * b[k][column_of(place, i)];
      to[i] = sum;
    }
  }
}

void carry_out_groups(unsigned number) {
  Warpgroup& warpgroup = warpgroups[number];
  const ThreadState& first = warpgroup.threads[0];
  for (const ThreadState& thread : warpgroup.threads)
    require(thread.issued == warpgroup.count && thread.groups == first.groups && thread.open == first.open,
            "wgmma: the threads of a warpgroup differ in what they have begun");
  size_t done = 0;
  while (done < warpgroup.count && warpgroup.products[done].group < first.groups - first.open)
    carry_out(warpgroup.products[done++], &warpgroup.products[0] + warpgroup.count);
  const Unseen unseen;
  std::move(warpgroup.products.begin() + static_cast<std::ptrdiff_t>(done),
            warpgroup.products.begin() + static_cast<std::ptrdiff_t>(warpgroup.count), warpgroup.products.begin());
  warpgroup.count -= done;
  for (ThreadState& thread : warpgroup.threads) thread.issued -= done;
}

}  // namespace

void multiply_asynchronously(const WarpgroupProduct& asked) {
  require(asked.columns % 8 == 0 && asked.columns >= 8 && asked.columns <= most_columns, "wgmma: ", asked.columns,
          " columns");
  Warpgroup& warpgroup = own_warpgroup();
  const unsigned place = own_place();
  ThreadState& thread = warpgroup.threads[place];
  require(thread.fenced, "wgmma: no wgmma.fence since its registers may have been written");
  require(thread.issued < warpgroup.products.size(), "wgmma: more products under way than expected");
  Product& product = warpgroup.products[thread.issued];
  const bool from_registers = asked.left != nullptr;
  if (thread.issued == warpgroup.count) {
    warpgroup.count++;
    product.columns = asked.columns, product.group = thread.groups, product.from_registers = from_registers;
    product.transposed = asked.transposed, product.add = asked.add, product.a = asked.a, product.b = asked.b;
  }
  require(product.columns == asked.columns && product.group == thread.groups &&
              product.from_registers == from_registers && product.transposed == asked.transposed &&
              product.add == asked.add && product.a == asked.a && product.b == asked.b,
          "wgmma: the threads of a warpgroup differ in what they multiply");
  thread.issued++;
  note_reads(product, place);
  const Unseen unseen;
  const Product* const begin = &warpgroup.products[0];
  const bool first =
      std::none_of(begin, begin + (&product - begin), [&](const Product& one) { return one.d[place] == asked.d; });
  product.d[place] = asked.d;
  if (from_registers) std::copy_n(asked.left, 4, product.left[place].begin());
  if (first) std::copy_n(asked.d, asked.columns / 2, product.held[place].begin());
  std::fill_n(asked.d, asked.columns / 2, nan);
}

void fence_products() { own_warpgroup().threads[own_place()].fenced = true; }
void commit_products() { own_warpgroup().threads[own_place()].groups++; }

void wait_for_products(int open, SourceLine where) {
  Warpgroup& warpgroup = own_warpgroup();
  ThreadState& thread = warpgroup.threads[own_place()];
  thread.open = open;
  for (size_t i = 0; i < warpgroup.count && warpgroup.products[i].group < thread.groups - open; i++)
    note_reads(warpgroup.products[i], own_place());
  thread.fenced = false;
  warpgroup_together(where, carry_out_groups);
}

void begin_warpgroups() {
  const Unseen unseen;
  for (Warpgroup& warpgroup : warpgroups) {
    warpgroup.count = 0;
    warpgroup.threads.fill({});
  }
}

}  // namespace llama_tp::emulation
