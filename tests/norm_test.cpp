// Norms against plain loops in f64, their gradients against differences of those loops.
#include "operation_fixture.h"

namespace llama_tp {
namespace {

// By the names, apart from the table of kinds.
bool centers(const NormKind& kind) { return kind == NormKind::layer_norm || kind == NormKind::layer_norm_1p; }
double factor(const NormKind& kind, double w) {
  return kind == NormKind::rms_1p || kind == NormKind::layer_norm_1p ? 1 + w : w;
}

struct Case {
  NormOptions options;
  DType dtype;
  int64_t tokens, hidden;
  bool bias;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType dtype : activation_types)
    for (const auto& [tokens, hidden] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 37}, {70, 64}, {600, 24}, {33, 771}, {3, 1031}, {2, 4104}})
      for (const NormKind kind : {NormKind::rms, NormKind::rms_1p, NormKind::layer_norm, NormKind::layer_norm_1p})
        for (const bool bias : {false, true})
          if (!bias || centers(kind)) all.push_back({{kind, 1e-5f}, dtype, tokens, hidden, bias});
  return all;
}

Shape statistics_shape(const Case& of) { return centers(of.options.kind) ? Shape{of.tokens, 2} : Shape{of.tokens}; }

struct Inputs {
  Owned x, w, b;
  Inputs(const Case& of, Random& random)
      : x(random.normals({of.tokens, of.hidden}, of.dtype)),
        w(random.normals({of.hidden}, of.dtype)),
        b(random.normals({of.hidden}, of.dtype)) {}
  Tensor bias(const Case& of) const { return of.bias ? static_cast<const Tensor&>(b) : Tensor{}; }
};

// One row and its parameters in f64, and y of it by the formula.
struct Row {
  std::vector<double> x, w, b;
};
struct Standardization {
  double mean, scale;
};
Standardization standardization(const Case& of, const std::vector<double>& x) {
  double mean = 0, square = 0;
  if (centers(of.options.kind))
    for (const double value : x) mean += value / static_cast<double>(x.size());
  for (const double value : x) square += (value - mean) * (value - mean) / static_cast<double>(x.size());
  return {mean, 1 / std::sqrt(square + static_cast<double>(of.options.epsilon))};
}
std::vector<double> plain_norm(const Case& of, const Row& row) {
  const auto& [x, w, b] = row;
  const auto [mean, scale] = standardization(of, x);
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); i++)
    y[i] = (x[i] - mean) * scale * factor(of.options.kind, w[i]) + (of.bias ? b[i] : 0);
  return y;
}

Row row_of(const Inputs& in, int64_t t, int64_t hidden) {
  Row row;
  for (int64_t i = 0; i < hidden; i++) {
    row.x.push_back(in.x[t * hidden + i]);
    row.w.push_back(in.w[i]);
    row.b.push_back(in.b[i]);
  }
  return row;
}

TEST(Norm, ForwardIsTheFormulaRoundedOnce) {
  Random random(1);
  Device device;
  for (const Case& of : cases()) {
    const Inputs in(of, random);
    Owned y({of.tokens, of.hidden}, of.dtype), statistics(statistics_shape(of), DType::f32);
    device->norm_forward(in.x, in.w, in.bias(of), of.options, y, statistics);
    for (int64_t t = 0; t < of.tokens; t++) {
      const auto expected = plain_norm(of, row_of(in, t, of.hidden));
      // A mean of H terms of size 1 in at least four running sums: H/4 roundings at worst, 1/√H of that in practice;
      // x − mean cancels (terms of size 4), and a lone element's deviation is 1/√ε = 316 times its rounding.
      const double roundings = 20 + static_cast<double>(of.hidden) / 16, terms = of.hidden == 1 ? 1000 : 8;
      for (int64_t i = 0; i < of.hidden; i++)
        expect_close(y, t * of.hidden + i, expected[static_cast<size_t>(i)], roundings, terms);
    }
  }
}

TEST(Norm, ApplyRepeatsForwardBitForBit) {
  Random random(2);
  Device device;
  for (const Case& of : cases()) {
    const Inputs in(of, random);
    Owned y({of.tokens, of.hidden}, of.dtype), again = y, statistics(statistics_shape(of), DType::f32);
    device->norm_forward(in.x, in.w, in.bias(of), of.options, y, statistics);
    device->norm_apply(in.x, in.w, in.bias(of), of.options, statistics, again);
    EXPECT_TRUE(y.same_bytes(again));
  }
}

TEST(Norm, AddNormIsTheRoundedSumThenTheNorm) {
  Random random(3);
  Device device;
  for (const Case& of : cases()) {
    const Inputs in(of, random);
    const Shape shape{of.tokens, of.hidden};
    const Owned part = random.normals(shape, of.dtype);
    Owned sum(shape, of.dtype), y(shape, of.dtype), statistics(statistics_shape(of), DType::f32);
    device->add_norm_forward(part, in.x, in.w, in.bias(of), of.options, sum, y, statistics);
    // An exact sum of two f32 has at most one rounding, and float(double sum) is it.
    const Owned expected_sum(shape, of.dtype, [&](int64_t i) { return part[i] + in.x[i]; });
    EXPECT_TRUE(sum.same_bytes(expected_sum));
    Owned expected_y(shape, of.dtype), expected_statistics(statistics_shape(of), DType::f32);
    device->norm_forward(expected_sum, in.w, in.bias(of), of.options, expected_y, expected_statistics);
    EXPECT_TRUE(y.same_bytes(expected_y));
    EXPECT_TRUE(statistics.same_bytes(expected_statistics));

    Owned residual = in.x;
    device->add_norm_forward(part, residual, in.w, in.bias(of), of.options, residual, y, statistics);
    EXPECT_TRUE(residual.same_bytes(sum));
    EXPECT_TRUE(y.same_bytes(expected_y));
  }
}

// d Σ dy·y / d (row.*of_what)[i] by central differences in f64: exact to about 1e-8.
double slope(const Case& of, Row row, const std::vector<double>& dy, std::vector<double> Row::*of_what, size_t i) {
  constexpr double step = 1e-4;
  double& value = (row.*of_what)[i];
  const double at = value;
  double change = 0;
  for (const double sign : {1.0, -1.0}) {
    value = at + sign * step;
    const std::vector<double> y = plain_norm(of, row);
    for (size_t j = 0; j < y.size(); j++) change += sign * dy[j] * y[j];
  }
  return change / (2 * step);
}

struct Gradients {
  Owned dx, dw, db;
};

Gradients backward(Device& device, const Case& of, const Inputs& in, const Owned& dy, const Gradients& before) {
  Gradients out = before;
  Owned y({of.tokens, of.hidden}, of.dtype), statistics(statistics_shape(of), DType::f32);
  device->norm_forward(in.x, in.w, in.bias(of), of.options, y, statistics);
  device->norm_backward(dy, in.x, in.w, of.options, statistics, out.dx, out.dw,
                        of.bias ? static_cast<const Tensor&>(out.db) : Tensor{});
  return out;
}

TEST(Norm, BackwardAddsTheSlopesOfForward) {
  Random random(4);
  Device device;
  for (const Case& of : cases()) {
    if (of.hidden == 1 || of.hidden > 100) continue;  // one element: a slope too steep for differences
    const Inputs in(of, random);
    const Owned dy = random.normals({of.tokens, of.hidden}, of.dtype);
    const Gradients before{random.normals({of.tokens, of.hidden}, of.dtype), random.normals({of.hidden}, DType::f32),
                           random.normals({of.hidden}, DType::f32)};
    const Gradients got = backward(device, of, in, dy, before);
    std::vector<double> dw(static_cast<size_t>(of.hidden)), db = dw;
    for (int64_t t = 0; t < of.tokens; t++) {
      const Row row = row_of(in, t, of.hidden);
      std::vector<double> row_dy;
      for (int64_t i = 0; i < of.hidden; i++) row_dy.push_back(dy[t * of.hidden + i]);
      for (int64_t i = 0; i < of.hidden; i++) {
        const auto at = static_cast<size_t>(i);
        const double dx = before.dx[t * of.hidden + i] + slope(of, row, row_dy, &Row::x, at);
        // Some forty roundings on terms up to 3·3·3; the difference's own 1e-8 is 7 roundings of 27 more.
        expect_close(got.dx, t * of.hidden + i, dx, 50, 27);
        dw[at] += slope(of, row, row_dy, &Row::w, at);
        db[at] += row_dy[at];
      }
    }
    for (int64_t i = 0; i < of.hidden; i++) {
      // Sums of T products of up to 3·3, one rounding or two each.
      const double terms = 9 * std::sqrt(static_cast<double>(of.tokens));
      expect_close(got.dw, i, before.dw[i] + dw[static_cast<size_t>(i)], 2 * static_cast<double>(of.tokens), terms);
      if (of.bias)
        expect_close(got.db, i, before.db[i] + db[static_cast<size_t>(i)], static_cast<double>(of.tokens), terms);
    }
  }
}

// The gradients of a row by the formula of norm_backward.cu, in f64; dw and db are added to.
struct PlainGradients {
  explicit PlainGradients(int64_t hidden) : dx(static_cast<size_t>(hidden)), dw(dx), db(dx) {}
  void take(const Case& of, const Row& row, const std::vector<double>& dy) {
    const Standardization standard = standardization(of, row.x);
    const auto normalized = [&](size_t i) { return (row.x[i] - standard.mean) * standard.scale; };
    const auto g = [&](size_t i) { return dy[i] * factor(of.options.kind, row.w[i]); };
    double mean_g = 0, mean_gx = 0;
    for (size_t i = 0; i < dy.size(); i++) {
      mean_g += centers(of.options.kind) ? g(i) / static_cast<double>(dy.size()) : 0;
      mean_gx += g(i) * normalized(i) / static_cast<double>(dy.size());
    }
    for (size_t i = 0; i < dy.size(); i++) {
      dx[i] = standard.scale * (g(i) - mean_g - normalized(i) * mean_gx);
      dw[i] += dy[i] * normalized(i);
      db[i] += dy[i];
    }
  }
  std::vector<double> dx, dw, db;
};

// Of columns beyond those that the threads of a block hold, in rows of single elements and of 16 bytes; and of more
// tokens than there are blocks, so that a block adds to what it has saved of such a column.
TEST(Norm, BackwardOfLongRowsIsTheFormula) {
  constexpr int64_t tokens = 257;
  constexpr NormOptions rms{NormKind::rms, 1e-5f}, rms_1p{NormKind::rms_1p, 1e-5f}, layer{NormKind::layer_norm, 1e-5f},
      layer_1p{NormKind::layer_norm_1p, 1e-5f};
  Random random(8);
  Device device;
  for (const Case& of :
       {Case{rms, DType::f32, tokens, 1031, false}, Case{rms_1p, DType::bf16, tokens, 1031, false},
        Case{layer_1p, DType::f32, tokens, 1031, true}, Case{layer, DType::bf16, tokens, 1031, false},
        Case{layer, DType::f32, tokens, 4104, true}, Case{layer_1p, DType::bf16, tokens, 8200, true}}) {
    const Inputs in(of, random);
    const Owned dy = random.normals({tokens, of.hidden}, of.dtype);
    const Gradients got = backward(
        device, of, in, dy,
        {Owned({tokens, of.hidden}, of.dtype), Owned({of.hidden}, DType::f32), Owned({of.hidden}, DType::f32)});
    PlainGradients plain(of.hidden);
    for (int64_t t = 0; t < tokens; t++) {
      std::vector<double> row_dy;
      for (int64_t i = 0; i < of.hidden; i++) row_dy.push_back(dy[t * of.hidden + i]);
      plain.take(of, row_of(in, t, of.hidden), row_dy);
      // Some forty roundings on terms up to 5·5·5.
      for (int64_t i = 0; i < of.hidden; i++)
        expect_close(got.dx, t * of.hidden + i, plain.dx[static_cast<size_t>(i)], 40, 125);
    }
    for (int64_t i = 0; i < of.hidden; i++) {
      // Sums of T products of up to 5·5, which go either way as their roundings do, one or two each.
      const double root = std::sqrt(static_cast<double>(tokens));
      expect_close(got.dw, i, plain.dw[static_cast<size_t>(i)], 2 * root, 25 * root);
      if (of.bias) expect_close(got.db, i, plain.db[static_cast<size_t>(i)], 2 * root, 25 * root);
    }
  }
}

TEST(Norm, BackwardDoesNotDependOnTheNumberOfThreads) {
  Random random(5);
  for (const DType dtype : activation_types) {
    const Case of{{NormKind::layer_norm_1p, 1e-5f}, dtype, 1000, 300, true};
    const Inputs in(of, random);
    const Owned dy = random.normals({of.tokens, of.hidden}, of.dtype);
    const Gradients zeros{Owned({of.tokens, of.hidden}, dtype), Owned({of.hidden}, DType::f32),
                          Owned({of.hidden}, DType::f32)};
    Device one(1);
    const Gradients expected = backward(one, of, in, dy, zeros);
    for (const int threads : thread_counts_under_test()) {
      Device several(threads);
      const Gradients got = backward(several, of, in, dy, zeros);
      EXPECT_TRUE(got.dx.same_bytes(expected.dx) && got.dw.same_bytes(expected.dw) && got.db.same_bytes(expected.db));
    }
  }
}

// ---- norms of heads

// Packed rows of 3 heads of q, 2 of k and 2 of v.
constexpr int64_t queries = 3, groups = 2, packed_heads = queries + 2 * groups;
struct Heads {
  DType dtype;
  int64_t tokens, dim;
  Owned qkv, q, k, dy;
  Heads(DType type, int64_t count, int64_t size, Random& random)
      : dtype(type),
        tokens(count),
        dim(size),
        qkv(random.normals({tokens, packed_heads * dim}, dtype)),
        q(random.normals({dim}, dtype)),
        k(random.normals({dim}, dtype)),
        dy(random.normals({tokens, packed_heads * dim}, dtype)) {}
  HeadNorms norms() const { return {q, k, queries, 1e-5f}; }
  // Head `head` of all tokens as rows of their own.
  Owned rows_of(const Owned& packed, int64_t head) const {
    return {{tokens, dim}, dtype, [&](int64_t i) { return packed[(i / dim * packed_heads + head) * dim + i % dim]; }};
  }
};

// Two results of the same sums in another order, each rounded to its type: sums of D terms of which the largest are
// about 16.
void expect_same_rows(const Owned& got, const Owned& expected, int64_t dim) {
  const DType dtype = static_cast<const Tensor&>(got).dtype;
  for (int64_t i = 0; i < got.size(); i++)
    ASSERT_NEAR(got[i], expected[i],
                2 * rounding(dtype) * std::fabs(expected[i]) + 16 * static_cast<double>(dim) * 0x1p-24)
        << "element " << i;
}

// Head by head they are the norm of rows, which the tests above hold against the formula.
TEST(HeadNorm, IsTheNormOfEachHeadOfQAndK) {
  Random random(6);
  Device device;
  const NormOptions options{NormKind::rms, 1e-5f};
  for (const DType dtype : activation_types)
    for (const auto& [tokens, dim] :
         {std::pair<int64_t, int64_t>{1, 6}, {70, 10}, {33, 128}, {5, 45}, {4, 64}, {7, 70}, {3, 136}, {3, 150}}) {
      const Heads in(dtype, tokens, dim, random);
      Owned y = in.qkv, dqkv = in.dy;
      const Owned before_q = random.normals({dim}, DType::f32), before_k = random.normals({dim}, DType::f32);
      Owned dq = before_q, dk = before_k;
      device->head_norm_forward(in.qkv, in.norms(), y);
      device->head_norm_backward(in.qkv, in.norms(), dqkv, dq, dk);
      Owned expected_dq = before_q, expected_dk = before_k;
      for (int64_t head = 0; head < packed_heads; head++) {
        const Owned x = in.rows_of(in.qkv, head), dy = in.rows_of(in.dy, head);
        if (head >= queries + groups) {  // v
          EXPECT_TRUE(in.rows_of(y, head).same_bytes(x) && in.rows_of(dqkv, head).same_bytes(dy));
          continue;
        }
        const Owned& w = head < queries ? in.q : in.k;
        Owned normed({tokens, dim}, dtype), statistics({tokens}, DType::f32), dx({tokens, dim}, dtype);
        device->norm_forward(x, w, {}, options, normed, statistics);
        device->norm_backward(dy, x, w, options, statistics, dx, head < queries ? expected_dq : expected_dk, {});
        expect_same_rows(in.rows_of(y, head), normed, dim);
        expect_same_rows(in.rows_of(dqkv, head), dx, dim);
      }
      for (int64_t i = 0; i < dim; i++) {  // the same sums in another order: of up to 3·T products of up to 3·3
        const double terms = 9 * std::sqrt(3 * static_cast<double>(tokens));
        expect_close(dq, i, expected_dq[i], 3 * static_cast<double>(tokens), terms);
        expect_close(dk, i, expected_dk[i], 3 * static_cast<double>(tokens), terms);
      }
      Owned in_place = in.qkv;
      device->head_norm_forward(in_place, in.norms(), in_place);
      EXPECT_TRUE(in_place.same_bytes(y));
    }
}

// Of elements so small that it is most of what is under the root.
TEST(HeadNorm, EpsilonIsAddedToTheMeanOfSquares) {
  Device device;
  constexpr float epsilon = 1e-3f;
  constexpr double element = 0x1p-8;
  for (const DType dtype : activation_types)
    for (const int64_t dim : {20, 64}) {
      const Owned qkv({2, packed_heads * dim}, dtype, [](int64_t i) { return i % 2 == 0 ? element : -element; });
      const Owned w({dim}, dtype, [](int64_t) { return 1.0; });
      const Owned y({2, packed_heads * dim}, dtype);
      device->head_norm_forward(qkv, {w, w, queries, epsilon}, y);
      const double normed = element / std::sqrt(element * element + static_cast<double>(epsilon));
      for (int64_t i = 0; i < y.size(); i++) {
        const bool is_v = i / dim % packed_heads >= queries + groups;
        expect_close(y, i, (i % 2 == 0 ? 1 : -1) * (is_v ? element : normed), 4, normed);
      }
    }
}

// docs/kernels.md's row: v is copied by forward, and backward leaves it alone.
TEST(HeadNorm, CountsTheHeadsOfQAndK) {
  Random random(8);
  for (const DType dtype : activation_types) {
    Device device;
    const Heads in(dtype, 5, 64, random);
    Owned y = in.qkv, dqkv = in.dy, dq({in.dim}, DType::f32), dk({in.dim}, DType::f32);
    device->head_norm_forward(in.qkv, in.norms(), y);
    device->head_norm_backward(in.qkv, in.norms(), dqkv, dq, dk);
    const Work &forward = device->work(Operation::head_norm_forward),
               &backward = device->work(Operation::head_norm_backward);
    const double heads = queries + groups, all = packed_heads, values = 5 * 64, size = dtype == DType::f32 ? 4 : 2;
    EXPECT_EQ(forward.flops, 4 * heads * values);
    EXPECT_EQ(forward.bytes, 2 * all * values * size);
    EXPECT_EQ(backward.flops, 10 * heads * values);
    EXPECT_EQ(backward.bytes, 3 * heads * values * size);
  }
}

TEST(HeadNorm, DoesNotDependOnTheNumberOfThreads) {
  Random random(7);
  const Heads in(DType::f32, 300, 64, random);
  std::vector<Owned> results;
  for (const int threads : {1, 2, 5}) {
    Device device(threads);
    Owned dqkv = in.dy, dq({in.dim}, DType::f32), dk({in.dim}, DType::f32);
    device->head_norm_backward(in.qkv, in.norms(), dqkv, dq, dk);
    for (const Owned* result : {&dqkv, &dq, &dk}) results.push_back(*result);
  }
  for (size_t i = 3; i < results.size(); i++) EXPECT_TRUE(results[i].same_bytes(results[i % 3]));
}

}  // namespace
}  // namespace llama_tp
