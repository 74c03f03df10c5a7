// The embedding split over ranks, against plain loops; and the copies and sums of flat arrays.
#include "operation_fixture.h"

namespace llama_tp {
namespace {

constexpr int64_t first_row = 10, rows = 7;  // this rank's part of the vocabulary

// Ids of this rank and of others, many of them repeated.
Owned random_ids(int64_t tokens, Random& random) {
  return {{tokens}, DType::i32, [&](int64_t) { return static_cast<double>(random.below(25)); }};
}

bool is_here(double id) { return id >= first_row && id < first_row + rows; }

TEST(Embedding, ForwardFetchesItsRowsAndLeavesZerosForOthers) {
  Random random(1);
  Device device;
  for (const DType dtype : activation_types)
    for (const auto& [tokens, hidden] : {std::pair<int64_t, int64_t>{1, 1}, {30, 33}, {100, 300}, {20, 72}}) {
      const Owned ids = random_ids(tokens, random), table = random.normals({rows, hidden}, dtype);
      Owned y = random.normals({tokens, hidden}, dtype);
      device->embedding_forward(ids, table, first_row, y);
      for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < hidden; i++) {
          const auto row = static_cast<int64_t>(ids[t]) - first_row;
          ASSERT_EQ(y[t * hidden + i], is_here(ids[t]) ? table[row * hidden + i] : 0.0);
        }
    }
}

// dtable with each token's gradient added, and rounded to f32 after each, in their order.
Owned table_with_gradients(const Owned& before, const Owned& ids, const Owned& dy, int64_t first, int64_t skip) {
  Owned table = before;
  const int64_t count = static_cast<const Tensor&>(before).shape[0], hidden = static_cast<const Tensor&>(dy).shape[1];
  for (int64_t t = 0; t < ids.size(); t++) {
    const auto id = static_cast<int64_t>(ids[t]);
    if (id < first || id >= first + count || id == skip) continue;
    for (int64_t i = 0; i < hidden; i++) {
      const int64_t at = (id - first) * hidden + i;
      table.set(at, table[at] + dy[t * hidden + i]);
    }
  }
  return table;
}

TEST(Embedding, BackwardAddsInTheOrderOfTheTokens) {
  Random random(2);
  for (const int threads : {1, 2, 3, 5})
    for (const DType dtype : activation_types)
      for (const auto& [tokens, hidden] :
           {std::pair<int64_t, int64_t>{1, 1}, {30, 33}, {100, 300}, {1000, 270}, {90, 1104}, {40, 1105}})
        for (const int64_t skip : {int64_t{-1}, int64_t{12}}) {
          const Owned ids = random_ids(tokens, random), dy = random.normals({tokens, hidden}, dtype);
          Owned dtable = random.normals({rows, hidden}, DType::f32);
          const Owned expected = table_with_gradients(dtable, ids, dy, first_row, skip);
          Device device(threads);
          device->embedding_backward(ids, dy, first_row, skip, dtable);
          EXPECT_TRUE(dtable.same_bytes(expected));
        }
}

TEST(Embedding, BackwardFindsEveryRowOfALargeTable) {
  Random random(8);
  constexpr int64_t count = 1300, tokens = 1500, hidden = 24;
  const Owned ids({tokens}, DType::i32, [&](int64_t) { return static_cast<double>(random.below(count + 200)); });
  const Owned dy = random.normals({tokens, hidden}, DType::bf16);
  Owned dtable = random.normals({count, hidden}, DType::f32);
  const Owned expected = table_with_gradients(dtable, ids, dy, 100, 500);
  Device device;
  device->embedding_backward(ids, dy, 100, 500, dtable);
  EXPECT_TRUE(dtable.same_bytes(expected));
}

const std::vector<int64_t> sizes{1, 15, 16384, 50001, 300000};

TEST(Elementwise, AddRoundsTheSumOnce) {
  Random random(3);
  Device device;
  for (const DType dtype : activation_types)
    for (const int64_t n : sizes) {
      const Owned x = random.normals({n}, dtype);
      Owned y = random.normals({n}, dtype);
      const Owned expected({n}, dtype, [&](int64_t i) { return x[i] + y[i]; });
      device->add(x, y);
      EXPECT_TRUE(y.same_bytes(expected));
    }
}

TEST(Elementwise, Bf16SumsKeepInfinityAndNotANumber) {
  Device device;
  const double infinity = HUGE_VAL;
  const std::array<double, 6> left{infinity, -infinity, infinity, NAN, 3.3895e38, 1},
      right{1, 1, -infinity, 1, 3.3895e38, NAN};
  const Owned x({6}, DType::bf16, [&](int64_t i) { return left[static_cast<size_t>(i)]; });
  Owned y({6}, DType::bf16, [&](int64_t i) { return right[static_cast<size_t>(i)]; });
  device->add(x, y);
  EXPECT_EQ(y[0], infinity);
  EXPECT_EQ(y[1], -infinity);
  EXPECT_TRUE(std::isnan(y[2]) && std::isnan(y[3]) && std::isnan(y[5]));
  EXPECT_EQ(y[4], infinity);
}

TEST(Elementwise, ScaleRoundsTheProductOnce) {
  Random random(7);
  Device device;
  for (const DType dtype : activation_types)
    for (const int64_t n : sizes) {
      Owned x = random.normals({n}, dtype);
      Owned y({n}, dtype);
      const Owned expected({n}, dtype, [&](int64_t i) { return x[i] * static_cast<double>(0.7f); });
      device->scale(x, 0.7f, y);
      EXPECT_TRUE(y.same_bytes(expected));
      device->scale(x, 0.7f, x);
      EXPECT_TRUE(x.same_bytes(expected));
    }
}

TEST(Elementwise, ZeroClearsEveryByteAndNoOther) {
  Random random(4);
  Device device;
  for (const int64_t n : sizes)
    for (const int64_t begin : {1, 4}) {  // 4: aligned to 16 bytes
      Owned x = random.normals({begin + n + 1}, DType::f32);
      const double before = x[begin - 1], after = x[begin + n];
      device->zero(static_cast<const Tensor&>(x).rows(begin, n));
      for (int64_t i = begin; i < begin + n; i++) ASSERT_EQ(x[i], 0);
      EXPECT_EQ(x[begin - 1], before);
      EXPECT_EQ(x[begin + n], after);
    }
}

TEST(Elementwise, GatherRowsCopiesRows) {
  Random random(5);
  Device device;
  for (const DType dtype : activation_types)
    for (const int64_t width : {301, 1208}) {
      const Owned x = random.normals({9, width}, dtype);
      const Owned chosen({100}, DType::i32, [&](int64_t) { return static_cast<double>(random.below(9)); });
      Owned y({100, width}, dtype);
      device->gather_rows(x, chosen, y);
      for (int64_t i = 0; i < y.size(); i++)
        ASSERT_EQ(y[i], x[static_cast<int64_t>(chosen[i / width]) * width + i % width]);
    }
}

TEST(Elementwise, SumOfSquaresIsInF64AndTheSameForAnyNumberOfThreads) {
  Random random(6);
  for (const int64_t n : sizes) {
    const Owned x = random.normals({n}, DType::f32);
    long double exact = 2.5L;
    for (int64_t i = 0; i < n; i++) exact += static_cast<long double>(x[i]) * static_cast<long double>(x[i]);
    double first = 0;
    for (const int threads : {1, 2, 3}) {
      Device device(threads);
      Owned result({1}, DType::f64, [](int64_t) { return 2.5; });
      device->add_sum_of_squares(x, result);
      // Positive terms: at most one rounding of f64 (1.1e-16) an addition of the longest chain, 65536 / 16 + blocks.
      EXPECT_NEAR(result[0], static_cast<double>(exact), static_cast<double>(exact) * 4200 * 0x1p-53);
      if (threads == 1) first = result[0];
      EXPECT_EQ(result[0], first);
    }
  }
}

}  // namespace
}  // namespace llama_tp
