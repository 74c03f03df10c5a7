// Matrix products of the CPU backend against plain loops in double, on every path: oneDNN as it is, widened to f32
// where the CPU has no bf16 products, and the matrix-vector kernel for few tokens.

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/packed_copy.h"
#include "backend/cpu/transposed_copy.h"
#include "base/parts.h"
#include "counted_allocations.h"
#include "operation_fixture.h"

namespace llama_tp {
namespace {

// bf16 products by oneDNN, or in f32 as on a CPU that has none.
enum class Bf16 { direct, widened };

class LinearCpu {
 public:
  explicit LinearCpu(Bf16 products, int threads = 2) : backend_(threads, products == Bf16::direct) {
    scratch_.reserve(backend_, int64_t{1} << 27);
  }
  Backend* operator->() { return &backend_; }

 private:
  CpuBackend backend_;
  Ledger ledger_;
  Arena scratch_{"scratch", ledger_};
  Workspace workspace_{backend_, scratch_};
};

struct Sizes {
  int64_t tokens, k, n;
};
// Odd, smaller than a vector, few tokens, many: backward takes 1,024 at a time; rows of w beyond one widened chunk (128);
// of dyᵀ beyond one transposed chunk (1,024 with two threads and as many tokens); with 256 tokens or more operands are
// packed, in blocks of 64 columns.
const std::vector<Sizes> all_sizes{{1, 64, 32},    {1, 1, 1},      {2, 33, 7},      {3, 130, 65},   {5, 96, 31},
                                   {8, 257, 9},    {9, 64, 48},    {17, 31, 13},    {64, 96, 80},   {100, 7, 3},
                                   {33, 50, 2050}, {7, 100, 2700}, {4, 513, 70},    {6, 1024, 10},  {1999, 3, 1100},
                                   {256, 64, 64},  {300, 130, 97}, {257, 191, 203}, {1200, 65, 700}};

void with_every_path(const std::function<void(Bf16, DType)>& body) {
  body(Bf16::direct, DType::f32);
  if (!OneDnn::bf16_instructions().empty()) body(Bf16::direct, DType::bf16);
  body(Bf16::widened, DType::bf16);
}

// Sums of k products in f32 are off by k roundings of the terms' total at most, in whatever order they are added.
TEST(CpuLinear, ForwardIsTheProductWithTheTransposedWeightPlusBias) {
  with_every_path([](Bf16 products, DType dtype) {
    LinearCpu cpu(products);
    Random random(1);
    for (const auto& [tokens, k, n] : all_sizes)
      for (const bool has_bias : {false, true})
        for (const DType output : {dtype, DType::f32}) {
          const Owned x = random.normals({tokens, k}, dtype), w = random.normals({n, k}, dtype);
          const Owned bias = random.normals({n}, dtype);
          const Owned y({tokens, n}, output);
          cpu->linear_forward(x, w, has_bias ? static_cast<const Tensor&>(bias) : Tensor{}, y);
          for (int64_t t = 0; t < tokens; t++)
            for (int64_t row = 0; row < n; row++) {
              double sum = has_bias ? bias[row] : 0, terms = std::fabs(sum);
              for (int64_t i = 0; i < k; i++) {
                sum += x[t * k + i] * w[row * k + i];
                terms += std::fabs(x[t * k + i] * w[row * k + i]);
              }
              expect_close(y, t * n + row, sum, static_cast<double>(k + 1), terms);
            }
        }
  });
}

// More shapes than are remembered.
TEST(CpuLinear, ManySizesComeRoundAgain) {
  LinearCpu cpu(Bf16::direct);
  Random random(8);
  const Owned w = random.normals({5, 16}, DType::f32);
  const auto product_of = [&](int64_t tokens) {
    const Owned x({tokens, 16}, DType::f32, [](int64_t i) { return static_cast<double>(i % 7); });
    Owned y({tokens, 5}, DType::f32);
    cpu->linear_forward(x, w, {}, y);
    return y;
  };
  const Owned first = product_of(20);
  for (int64_t tokens = 20; tokens < 600; tokens++) product_of(tokens);
  EXPECT_TRUE(product_of(20).same_bytes(first));
}

TEST(CpuLinear, BackwardInputIsTheProductWithTheWeight) {
  with_every_path([](Bf16 products, DType dtype) {
    LinearCpu cpu(products);
    Random random(2);
    for (const auto& [tokens, k, n] : all_sizes) {
      const Owned dy = random.normals({tokens, n}, dtype), w = random.normals({n, k}, dtype);
      const Owned dx({tokens, k}, dtype, [](int64_t) { return 1e9; });  // to be overwritten
      cpu->linear_backward_input(dy, w, dx);
      for (int64_t t = 0; t < tokens; t++)
        for (int64_t i = 0; i < k; i++) {
          double sum = 0, terms = 0;
          for (int64_t row = 0; row < n; row++) {
            sum += dy[t * n + row] * w[row * k + i];
            terms += std::fabs(dy[t * n + row] * w[row * k + i]);
          }
          expect_close(dx, t * k + i, sum, static_cast<double>(n), terms);
        }
    }
  });
}

// Rows of w beyond what is packed at once (4 MiB of bf16, 16 MiB of f32), the last part much shorter than the others:
// 2,060 and 4,100 rows are parts of 704 and of 1,408; 1,100 tokens are two parts. Every 157th token is looked at.
TEST(CpuLinear, BackwardInputOfALargeWeightIsTheSumOverPartsOfItsRows) {
  with_every_path([](Bf16 products, DType dtype) {
    LinearCpu cpu(products);
    Random random(9);
    const int64_t tokens = 1100, k = dtype == DType::bf16 ? 1040 : 1030, n = dtype == DType::bf16 ? 2060 : 4100;
    const Owned dy = random.normals({tokens, n}, dtype), w = random.normals({n, k}, dtype);
    ASSERT_GT(static_cast<const Tensor&>(w).bytes(), int64_t{dtype == DType::bf16 ? 4 : 16} << 20);
    const Owned dx({tokens, k}, dtype, [](int64_t) { return 1e9; });
    cpu->linear_backward_input(dy, w, dx);
    for (int64_t t = 0; t < tokens; t += 157) {
      std::vector<double> sums(static_cast<size_t>(k)), terms(sums);
      for (int64_t row = 0; row < n; row++)
        for (int64_t i = 0; i < k; i++) {
          const double term = dy[t * n + row] * w[row * k + i];
          sums[static_cast<size_t>(i)] += term;
          terms[static_cast<size_t>(i)] += std::fabs(term);
        }
      for (int64_t i = 0; i < k; i++)
        expect_close(dx, t * k + i, sums[static_cast<size_t>(i)], static_cast<double>(n),
                     terms[static_cast<size_t>(i)]);
    }
  });
}

TEST(CpuLinear, BackwardWeightAddsTheProductOfGradientAndInputToWhatIsThere) {
  with_every_path([](Bf16 products, DType dtype) {
    LinearCpu cpu(products);
    Random random(3);
    for (const auto& [tokens, k, n] : all_sizes) {
      const Owned dy = random.normals({tokens, n}, dtype), x = random.normals({tokens, k}, dtype);
      const Owned dw = random.normals({n, k}, DType::f32), before = dw;
      cpu->linear_backward_weight(dy, x, dw);
      for (int64_t row = 0; row < n; row++)
        for (int64_t i = 0; i < k; i++) {
          double sum = before[row * k + i], terms = std::fabs(sum);
          for (int64_t t = 0; t < tokens; t++) {
            sum += dy[t * n + row] * x[t * k + i];
            terms += std::fabs(dy[t * n + row] * x[t * k + i]);
          }
          expect_close(dw, row * k + i, sum, static_cast<double>(tokens + 1), terms);
        }
    }
  });
}

// Beside packed operands there is room for 1,024 tokens or so, and for a large weight's rows by parts of as many.
TEST(CpuLinear, MoreTokensNeedNoMoreScratchMemoryOfABackward) {
  if (!OneDnn::keeps_to_workspace()) GTEST_SKIP() << "oneDNN packs nothing here";
  std::vector<DType> dtypes{DType::f32};
  if (!OneDnn::bf16_instructions().empty()) dtypes.push_back(DType::bf16);
  for (const DType dtype : dtypes) {
    LinearCpu cpu(Bf16::direct);
    constexpr int64_t k = 1040, n = 4100;
    const auto bytes_for = [&](int64_t tokens) {
      const Tensor x{nullptr, dtype, {tokens, k}}, dy{nullptr, dtype, {tokens, n}}, w{nullptr, dtype, {n, k}};
      return std::pair{cpu->linear_backward_input_workspace(dy, w, x),
                       cpu->linear_backward_weight_workspace(dy, x, {nullptr, DType::f32, {n, k}})};
    };
    const auto [input, weight] = bytes_for(2048);
    const auto [input_of_many, weight_of_many] = bytes_for(16384);
    EXPECT_EQ(input_of_many, input);
    EXPECT_EQ(weight_of_many, weight);
  }
}

TEST(CpuLinear, ATransposedCopyHasEachElementInItsNewPlaceAndNothingBeyond) {
  Random random(8);
  for (const auto& [rows, columns] : {std::pair{1, 1}, {1, 70}, {31, 33}, {32, 32}, {64, 96}, {65, 17}, {7, 200}})
    for (const int threads : {1, 3}) {
      const int64_t stride = columns + 5;
      const Owned from = random.normals({rows, stride}, DType::bf16);
      const Owned to({columns * rows + 1}, DType::bf16, [](int64_t) { return 7.0; });
      transposed_copy(threads, static_cast<const Tensor&>(from).as<bf16>(), stride, rows, columns,
                      static_cast<const Tensor&>(to).as<bf16>());
      for (int64_t column = 0; column < columns; column++)
        for (int64_t row = 0; row < rows; row++) EXPECT_EQ(to[column * rows + row], from[row * stride + column]);
      EXPECT_EQ(to[columns * rows], 7.0);
    }
}

// Where an element lies that packed_copy.h puts into blocks; all else is zero.
TEST(CpuLinear, APackedCopyHasEachElementInItsBlockAndZerosAroundIt) {
  Random random(10);
  for (const DType dtype : activation_types)
    for (const auto& [rows, columns] : {std::pair{1, 1}, {31, 33}, {32, 64}, {33, 65}, {16, 128}, {100, 200}})
      for (const int threads : {1, 3}) {
        const int64_t pair = dtype == DType::bf16 ? 2 : 1, padded_rows = round_up(rows, 16 * pair);
        const int64_t count = packed_bytes(dtype, rows, columns) / size_of(dtype);
        ASSERT_EQ(count, padded_rows * round_up(columns, 64));
        const Owned from = random.normals({rows, columns}, dtype);
        const Owned to({count + 1}, dtype, [](int64_t) { return 7.0; });
        packed_copy(threads, from, static_cast<const Tensor&>(to).data);
        std::vector<double> expected(static_cast<size_t>(count) + 1);
        expected.back() = 7;
        for (int64_t row = 0; row < rows; row++)
          for (int64_t column = 0; column < columns; column++)
            expected[static_cast<size_t>(column / 64 * 64 * padded_rows + row / pair * pair * 64 + column % 64 * pair +
                                         row % pair)] = from[row * columns + column];
        for (int64_t i = 0; i <= count; i++) EXPECT_EQ(to[i], expected[static_cast<size_t>(i)]) << i;
      }
}

TEST(CpuLinear, BiasGradientAddsTheColumnsOfTheGradient) {
  LinearCpu cpu(Bf16::direct);
  Random random(4);
  for (const DType dtype : activation_types)
    for (const auto& [tokens, k, n] : all_sizes) {
      const Owned dy = random.normals({tokens, n}, dtype);
      const Owned db = random.normals({n}, DType::f32), before = db;
      cpu->bias_backward(dy, db);
      for (int64_t i = 0; i < n; i++) {
        double sum = before[i], terms = std::fabs(sum);
        for (int64_t t = 0; t < tokens; t++) sum += dy[t * n + i], terms += std::fabs(dy[t * n + i]);
        expect_close(db, i, sum, static_cast<double>(tokens + 1), terms);
      }
    }
}

TEST(CpuLinear, ResultsOfOneNumberOfThreadsAreRepeatedBitForBit) {
  for (const DType dtype : activation_types)
    for (const int64_t tokens : {1, 5, 70}) {
      Random random(5);
      const Owned x = random.normals({tokens, 300}, dtype), w = random.normals({200, 300}, dtype);
      const Owned dy = random.normals({tokens, 200}, dtype);
      const Owned y({tokens, 200}, dtype), dw({200, 300}, DType::f32), y2 = y, dw2 = dw;
      const Bf16 products = OneDnn::bf16_instructions().empty() ? Bf16::widened : Bf16::direct;
      LinearCpu first(products), second(products);
      first->linear_forward(x, w, {}, y);
      first->linear_backward_weight(dy, x, dw);
      second->linear_forward(x, w, {}, y2);
      second->linear_backward_weight(dy, x, dw2);
      EXPECT_TRUE(y.same_bytes(y2) && dw.same_bytes(dw2));
    }
}

#if defined(COUNTS_ALLOCATIONS)
// Of the second run: the first may make what others need, too.
Allocations allocations_of_another(const std::function<void()>& body) {
  body();
  return allocations_of(body);
}

TEST(CpuLinear, OnceAskedForItsWorkspaceNoOperationAllocates) {
  for (const DType dtype : activation_types)
    for (const bool few : {true, false}) {
      LinearCpu cpu(OneDnn::bf16_instructions().empty() ? Bf16::widened : Bf16::direct);
      Random random(7);
      const int64_t tokens = few ? 1 : 100;
      const Owned x = random.normals({tokens, 96}, dtype), w = random.normals({64, 96}, dtype), y({tokens, 64}, dtype);
      const Owned dw({64, 96}, DType::f32), q = random.normals({4, tokens, 16}, dtype), k = q, dq = q, dk = q, dv = q;
      const Owned ranges({1, 4}, DType::i32, [&](int64_t i) { return i % 2 == 0 ? 0.0 : static_cast<double>(tokens); });
      const Owned out({tokens, 64}, dtype), lse({4, tokens}, DType::f32);
      const Sequences sequences{ranges, 1, tokens, tokens, tokens};

      const auto products = allocations_of_another([&] {
        cpu->linear_forward(x, w, {}, y);
        if (few) return;
        cpu->linear_backward_input(y, w, x);
        cpu->linear_backward_weight(y, x, dw);
      });
      // oneDNN makes a map of its arguments for each product: a few small pieces, given back at once.
      EXPECT_LE(products.count, few ? 0u : 3u * 16u);
      const size_t largest = few ? 0u : OneDnn::keeps_to_workspace() ? 512u : SIZE_MAX;
      EXPECT_LE(products.largest, largest);

      const auto attention = allocations_of_another([&] {
        cpu->attention_forward(q, k, k, sequences, {}, out, lse);
        cpu->attention_backward(out, q, k, k, out, lse, sequences, {}, dq, dk, dv);
      });
      EXPECT_EQ(attention.count, 0u);
    }
}
#endif

TEST(CpuLinear, NoTokensAreNoWork) {
  LinearCpu cpu(Bf16::direct);
  const Owned x({0, 8}, DType::f32), y({0, 4}, DType::f32);
  Random random(6);
  const Owned w = random.normals({4, 8}, DType::f32), dw = random.normals({4, 8}, DType::f32), before = dw;
  cpu->linear_forward(x, w, {}, y);
  cpu->linear_backward_input(y, w, x);
  cpu->linear_backward_weight(y, x, dw);
  EXPECT_TRUE(dw.same_bytes(before));
}

}  // namespace
}  // namespace llama_tp
