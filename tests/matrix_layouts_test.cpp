// Where the instructions for matrices find and leave each element, held to a source that the kernels and the emulation
// were not written from: NVIDIA's CUTLASS 4.2, whose layouts say which value of which thread is which element. The
// formulas here were compared with these layouts, and the descriptors with those that CUTLASS makes of the same tiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/swizzled_tile.h"
#include "kernels/tiles.h"

namespace llama_tp::kernels {
namespace {

template <class... Parameters, class... Arguments>
void run(int threads, size_t shared_bytes, void (*kernel)(Parameters...), const Arguments&... arguments) {
  launch(nullptr, "kernel", {1}, threads, shared_bytes, kernel, arguments...);
}

// Small integers without a pattern, whose products are exact.
float value(int i, int j, int matrix) {
  return static_cast<float>((i * 1009 + j * 9176 + i * j * 31 + matrix * 77) % 97 % 15 - 7);
}
uint32_t bits(int i, int j, int matrix) { return to_bf16(value(i, j, matrix)).bits; }
std::vector<bf16> matrix(int rows, int columns, int number) {
  std::vector<bf16> made;
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) made.push_back(to_bf16(value(i, j, number)));
  return made;
}

struct Place {
  int row, column;
};

// Of the sums of any number of columns, and of a left factor of sixteen, which has two values a word. The thread is one
// of a warp's 32, or of a warpgroup's 128, of which each warp has sixteen of the rows. (mma_traits_sm80.hpp,
// SM80_16x8x16_F32BF16BF16F32_TN: ALayout, CLayout; mma_traits_sm90_gmma.hpp: ALayout_64x16, CLayout_64xN)
Place of_rows(int thread, int value) {
  return {thread / 32 * 16 + thread % 32 / 4 + value / 2 % 2 * 8, thread % 4 * 2 + value % 2 + value / 4 * 8};
}
// Of a warp's right factor of sixteen rows and eight columns (BLayout of the same).
Place of_right(int lane, int value) { return {lane % 4 * 2 + value % 2 + value / 2 * 8, lane / 4}; }

// Words of a factor, two values each.
template <class Words>
void fill(Words& words, int thread, Place (*of)(int, int), int number) {
  for (int i = 0; i < static_cast<int>(words.size()); i++) {
    const Place first = of(thread, 2 * i), second = of(thread, 2 * i + 1);
    const uint32_t high = bits(second.row, second.column, number) << 16;
    words[static_cast<size_t>(i)] = bits(first.row, first.column, number) | high;
  }
}
using LeftWords = std::array<uint32_t, 4>;
using RightWords = std::array<uint32_t, 2>;

TEST(MatrixLayouts, AWarpsProductTakesAndGivesElementsWhereCutlassHasThem) {
  std::vector<LeftWords> a(32);
  std::vector<RightWords> b(32);
  std::vector<std::array<float, 4>> d(32);
  for (int lane = 0; lane < 32; lane++) {
    fill(a[static_cast<size_t>(lane)], lane, of_rows, 0);
    fill(b[static_cast<size_t>(lane)], lane, of_right, 1);
  }
  run(
      32, 0,
      +[](const LeftWords* left, const RightWords* right, std::array<float, 4>* out) {
        const auto [b0, b1] = right[threadIdx.x];
        const auto& from = left[threadIdx.x];
        const uint32_t words[4] = {from[0], from[1], from[2], from[3]};
        float sums[4] = {};
        multiply_add(sums, words, b0, b1);
        std::copy_n(sums, 4, out[threadIdx.x].begin());
      },
      a.data(), b.data(), d.data());
  for (int lane = 0; lane < 32; lane++)
    for (int i = 0; i < 4; i++) {
      const auto [row, column] = of_rows(lane, i);
      float sum = 0;
      for (int k = 0; k < 16; k++) sum += value(row, k, 0) * value(k, column, 1);
      ASSERT_EQ(d[static_cast<size_t>(lane)][static_cast<size_t>(i)], sum) << lane << ", " << i;
    }
}

// copy_traits_sm75.hpp, SM75_U32x4_LDSM_N and SM75_U16x8_LDSM_T: from the rows that lanes 8m to 8m + 7 name, word m.
TEST(MatrixLayouts, LoadedMatricesLieInLanesWhereCutlassHasThem) {
  struct Loaded {
    uint32_t straight[4], transposed[4];
  };
  std::vector<Loaded> loaded(32);
  run(
      32, sizeof(bf16[32][8]),
      +[](Loaded* out) {
        auto& rows = shared_memory<bf16[32][8]>();
        for (int j = 0; j < 8; j++)
          rows[threadIdx.x][j].bits = static_cast<uint16_t>(threadIdx.x * 8u + static_cast<unsigned>(j));
        __syncwarp();
        load_matrices(out[threadIdx.x].straight, rows[threadIdx.x]);
        load_matrices_transposed(out[threadIdx.x].transposed, rows[threadIdx.x]);
      },
      loaded.data());
  const auto element = [](uint32_t m, uint32_t i, uint32_t j) { return (m * 8 + i) * 8 + j; };
  for (uint32_t lane = 0; lane < 32; lane++)
    for (uint32_t m = 0; m < 4; m++) {
      const uint32_t i = lane / 4, j = lane % 4 * 2;
      ASSERT_EQ(loaded[lane].straight[m], element(m, i, j) | element(m, i, j + 1) << 16) << lane << ", " << m;
      ASSERT_EQ(loaded[lane].transposed[m], element(m, j, i) | element(m, j + 1, i) << 16) << lane << ", " << m;
    }
}

// numeric_conversion.h: the first of two values is in the low half of the word, the last operand of the instruction.
TEST(MatrixLayouts, TheFirstOfAPairIsInItsLowHalf) { EXPECT_EQ(pair_of(1, 2), 0x4000'3f80u); }

// ---- warpgroups

template <int n>
struct Products {
  std::vector<std::array<float, n / 2>> sums = std::vector<std::array<float, n / 2>>(128);

  // right(k, j): that element of the right factor.
  template <class Right>
  void expect(int depth, const Right& right) const {
    for (int thread = 0; thread < 128; thread++)
      for (int i = 0; i < n / 2; i++) {
        const auto [row, column] = of_rows(thread, i);
        float sum = 0;
        for (int k = 0; k < depth; k++) sum += value(row, k, 0) * right(k, column);
        ASSERT_EQ(sums[static_cast<size_t>(thread)][static_cast<size_t>(i)], sum) << thread << ", " << i;
      }
  }
};

template <int n>
void give(const float (&sums)[n / 8][4], std::array<float, n / 2>& out) {
  for (int i = 0; i < n / 2; i++) out[static_cast<size_t>(i)] = sums[i / 4][i % 4];
}

// A tile by its copy, for all threads.
template <class AnyTile>
void bring(AnyTile& tile, const TensorMap& map, MemoryBarrier& full) {
  if (threadIdx.x == 0) {
    initialize(full, 1);
    fence_async_proxy();
    arrive_and_expect(full, AnyTile::bytes);
    copy_rows(tile, map, 0, 0, full);
  }
  __syncthreads();
  wait_for(full, 0);
}

template <int n>
void expect_product_of_words() {
  struct Shared {
    SwizzledTile<16, n> b;
    MemoryBarrier full;
  };
  std::vector<LeftWords> a(128);
  for (int thread = 0; thread < 128; thread++) fill(a[static_cast<size_t>(thread)], thread, of_rows, 0);
  const std::vector<bf16> b = matrix(16, n, 1);
  Products<n> products;
  run(
      128, sizeof(Shared),
      +[](TensorMap map, const LeftWords* left, std::array<float, n / 2>* out) {
        auto& shared = shared_memory<Shared>();
        bring(shared.b, map, shared.full);
        uint32_t words[1][4];
        std::copy_n(left[threadIdx.x].begin(), 4, words[0]);
        Sums<n> sums;
        set_zero(sums);
        fence_products(sums, words);
        add_product(sums, words[0], describe_rows(shared.b, 0));
        commit_products();
        wait_for_products<0>(sums);
        give<n>(sums, out[threadIdx.x]);
      },
      map_of_heads(b.data(), 1, 16, n, 16), a.data(), products.sums.data());
  products.expect(16, [](int k, int j) { return value(k, j, 1); });
}

template <int n>
void expect_product_of_tiles() {
  struct Shared {
    SwizzledTile<64, 64> a;
    SwizzledTile<n, 64> b;
    MemoryBarrier a_full, b_full;
  };
  const std::vector<bf16> a = matrix(64, 64, 0), b = matrix(n, 64, 1);
  Products<n> products;
  run(
      128, sizeof(Shared),
      +[](TensorMap of_a, TensorMap of_b, std::array<float, n / 2>* out) {
        auto& shared = shared_memory<Shared>();
        bring(shared.a, of_a, shared.a_full);
        bring(shared.b, of_b, shared.b_full);
        Sums<n> sums;
        fence_products(sums);
        for (int k = 0; k < 64; k += 16)
          multiply_rows(sums, describe_columns(shared.a, k), describe_columns(shared.b, k), k > 0);
        commit_products();
        wait_for_products<0>(sums);
        give<n>(sums, out[threadIdx.x]);
      },
      map_of_heads(a.data(), 1, 64, 64, 64), map_of_heads(b.data(), 1, n, 64, n), products.sums.data());
  products.expect(64, [](int k, int j) { return value(j, k, 1); });
}

TEST(MatrixLayouts, AWarpgroupsProductTakesAndGivesElementsWhereCutlassHasThem) {
  expect_product_of_words<64>();
  expect_product_of_words<128>();
  expect_product_of_tiles<64>();
  expect_product_of_tiles<128>();
}

// ---- tiles

// Behind 33 KiB, so that where it begins shows in its descriptors.
template <class AnyTile>
struct Behind {
  SwizzledTile<8, 64> before[33];
  AnyTile tile;
  MemoryBarrier full;
};

// swizzle.hpp, Swizzle<3, 4, 3> on bytes, over Layout_K_SW128_Atom and, transposed, Layout_MN_SW128_Atom.
TEST(MatrixLayouts, ATileLiesInMemoryAsCutlassSwizzlesIt) {
  using Shared = Behind<SwizzledTile<24, 128>>;
  const std::vector<bf16> from = matrix(24, 128, 0);
  std::vector<bf16> memory(24 * 128);
  run(
      1, sizeof(Shared),
      +[](TensorMap map, bf16* out) {
        auto& shared = shared_memory<Shared>();
        bring(shared.tile, map, shared.full);
        std::copy_n(&shared.tile.part[0][0][0], 24 * 128, out);
      },
      map_of_heads(from.data(), 1, 24, 128, 24), memory.data());
  for (int row = 0; row < 24; row++)
    for (int column = 0; column < 128; column++) {
      const int byte = column / 64 * 24 * 128 + row * 128 + column % 64 * 2, swizzled = byte ^ (byte & 0x380) >> 3;
      ASSERT_EQ(to_float(memory[static_cast<size_t>(swizzled / 2)]), value(row, column, 0)) << row << ", " << column;
    }
}

using Descriptors = std::vector<uint64_t>;
template <int rows, int columns>
struct Described {
  Descriptors of_columns = Descriptors(columns / 16), of_rows = Descriptors(rows / 16);

  Described() {
    using Shared = Behind<SwizzledTile<rows, columns>>;
    run(
        1, sizeof(Shared),
        +[](uint64_t* columns_out, uint64_t* rows_out) {
          const auto& tile = shared_memory<Shared>().tile;
          for (int i = 0; i < columns / 16; i++) columns_out[i] = describe_columns(tile, i * 16);
          for (int i = 0; i < rows / 16; i++) rows_out[i] = describe_rows(tile, i * 16);
        },
        of_columns.data(), of_rows.data());
  }
};

// make_gmma_desc<Major::K> and <Major::MN> of tiles that begin at byte 0x8400, for each sixteen of what is summed over.
TEST(MatrixLayouts, DescriptorsAreThoseThatCutlassMakes) {
  const Described<64, 64> small;
  const Described<64, 128> wide;
  const Described<128, 64> high;
  const Described<128, 128> large;
  const Descriptors four{0x4000004000010840, 0x4000004000010842, 0x4000004000010844, 0x4000004000010846};
  EXPECT_EQ(small.of_columns, four);
  EXPECT_EQ(high.of_columns, four);
  EXPECT_EQ(wide.of_columns,
            (Descriptors{0x4000004000010840, 0x4000004000010842, 0x4000004000010844, 0x4000004000010846,
                         0x4000004000010a40, 0x4000004000010a42, 0x4000004000010a44, 0x4000004000010a46}));
  EXPECT_EQ(large.of_columns,
            (Descriptors{0x4000004000010840, 0x4000004000010842, 0x4000004000010844, 0x4000004000010846,
                         0x4000004000010c40, 0x4000004000010c42, 0x4000004000010c44, 0x4000004000010c46}));
  EXPECT_EQ(small.of_rows,
            (Descriptors{0x4000004000000840, 0x40000040000008c0, 0x4000004000000940, 0x40000040000009c0}));
  EXPECT_EQ(wide.of_rows,
            (Descriptors{0x4000004002000840, 0x40000040020008c0, 0x4000004002000940, 0x40000040020009c0}));
  EXPECT_EQ(high.of_rows,
            (Descriptors{0x4000004000000840, 0x40000040000008c0, 0x4000004000000940, 0x40000040000009c0,
                         0x4000004000000a40, 0x4000004000000ac0, 0x4000004000000b40, 0x4000004000000bc0}));
  EXPECT_EQ(large.of_rows,
            (Descriptors{0x4000004004000840, 0x40000040040008c0, 0x4000004004000940, 0x40000040040009c0,
                         0x4000004004000a40, 0x4000004004000ac0, 0x4000004004000b40, 0x4000004004000bc0}));
}

}  // namespace
}  // namespace llama_tp::kernels
