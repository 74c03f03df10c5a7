// Rotary positions against the rotation of complex numbers in f64.
#include <complex>

#include "operation_fixture.h"

namespace llama_tp {
namespace {

struct Case {
  int64_t tokens, cached, queries, groups, dim, rotary_dim;
  int64_t width() const { return (queries + 2 * groups) * dim; }
};

const std::vector<Case> cases{{1, 1, 1, 1, 2, 2},     {5, 9, 4, 2, 8, 8},   {7, 7, 3, 1, 10, 6},
                              {33, 40, 2, 2, 64, 64}, {9, 9, 3, 3, 80, 20}, {300, 300, 8, 2, 128, 128},
                              {5, 9, 4, 2, 8, 0},     {7, 7, 3, 1, 10, 0}};

Owned random_table(const Case& of, Random& random) {
  Owned table({of.tokens, of.rotary_dim}, DType::f32);
  const int64_t half = of.rotary_dim / 2;
  for (int64_t t = 0; t < of.tokens; t++)
    for (int64_t i = 0; i < half; i++) {
      const double angle = 3 * random.normal();
      table.set(t * of.rotary_dim + i, std::cos(angle));
      table.set(t * of.rotary_dim + half + i, std::sin(angle));
    }
  return table;
}

// Element i of a head of token t, rotated forward or back.
double rotated(const Case& of, const Owned& table, int64_t t, const Owned& head, int64_t begin, int64_t i, bool back) {
  if (i >= of.rotary_dim) return head[begin + i];
  const int64_t half = of.rotary_dim / 2, pair = i % half;
  const std::complex<double> value(head[begin + pair], head[begin + half + pair]);
  const std::complex<double> rotation(table[t * of.rotary_dim + pair], table[t * of.rotary_dim + half + pair]);
  const std::complex<double> result = value * (back ? std::conj(rotation) : rotation);
  return i < half ? result.real() : result.imag();
}

// The tokens in reverse, at the end of the cache.
Owned reversed_slots(const Case& of) {
  return {{of.tokens}, DType::i32, [&](int64_t t) { return static_cast<double>(of.cached - 1 - t); }};
}

TEST(Rope, TableIsTheCosineAndSineOfTheAngleInF32) {
  Device device;
  const Owned positions({5}, DType::i32, [](int64_t t) {
    return std::array<double, 5>{0, 1, 77, 8191, 131071}[static_cast<size_t>(t)];
  });
  const Owned frequencies({9}, DType::f32, [](int64_t i) { return std::pow(500000.0, -static_cast<double>(i) / 9); });
  for (const float scale : {1.0f, 1.3465736f}) {
    Owned table({5, 18}, DType::f32);
    device->rope_table(positions, frequencies, scale, table);
    for (int64_t t = 0; t < 5; t++)
      for (int64_t i = 0; i < 9; i++) {
        // The angle is rounded to f32, as in transformers; its cosine then has 1 rounding and the scaling another.
        const auto angle = static_cast<double>(static_cast<float>(positions[t]) * static_cast<float>(frequencies[i]));
        expect_close(table, t * 18 + i, static_cast<double>(scale) * std::cos(angle), 1.2, static_cast<double>(scale));
        expect_close(table, t * 18 + 9 + i, static_cast<double>(scale) * std::sin(angle), 1.2,
                     static_cast<double>(scale));
      }
  }
}

TEST(Rope, ForwardRotatesPairsAndLaysHeadsOutBySlot) {
  Random random(1);
  Device device;
  for (const DType dtype : activation_types)
    for (const Case& of : cases) {
      const Owned qkv = random.normals({of.tokens, of.width()}, dtype), table = random_table(of, random);
      const Owned slots = reversed_slots(of);
      constexpr double untouched = 77;
      Owned q({of.queries, of.tokens, of.dim}, dtype);
      Owned k({of.groups, of.cached, of.dim}, dtype, [](int64_t) { return untouched; }), v = k;
      device->rope_forward(qkv, table, slots, q, k, v);

      std::vector<bool> filled(static_cast<size_t>(of.cached));
      for (int64_t t = 0; t < of.tokens; t++) {
        const auto slot = static_cast<int64_t>(slots[t]);
        filled[static_cast<size_t>(slot)] = true;
        for (int64_t head = 0; head < of.queries + 2 * of.groups; head++)
          for (int64_t i = 0; i < of.dim; i++) {
            const int64_t begin = t * of.width() + head * of.dim, g = (head - of.queries) % of.groups;
            const double expected = rotated(of, table, t, qkv, begin, i, false);
            // Two products of up to 3.5, and their sum.
            if (head < of.queries)
              expect_close(q, (head * of.tokens + t) * of.dim + i, expected, 2, 4);
            else if (head < of.queries + of.groups)
              expect_close(k, (g * of.cached + slot) * of.dim + i, expected, 2, 4);
            else
              ASSERT_EQ(v[(g * of.cached + slot) * of.dim + i], qkv[begin + i]);
          }
      }
      for (int64_t slot = 0; slot < of.cached; slot++)
        if (!filled[static_cast<size_t>(slot)])
          for (int64_t g = 0; g < of.groups; g++)
            for (int64_t i = 0; i < of.dim; i++) {
              ASSERT_EQ(k[(g * of.cached + slot) * of.dim + i], untouched);
              ASSERT_EQ(v[(g * of.cached + slot) * of.dim + i], untouched);
            }
    }
}

TEST(Rope, BackwardRotatesBackAndPacks) {
  Random random(2);
  Device device;
  for (const DType dtype : activation_types)
    for (const Case& of : cases) {
      const Owned table = random_table(of, random), dq = random.normals({of.queries, of.tokens, of.dim}, dtype);
      const Owned dk = random.normals({of.groups, of.tokens, of.dim}, dtype);
      const Owned dv = random.normals({of.groups, of.tokens, of.dim}, dtype);
      Owned dqkv({of.tokens, of.width()}, dtype);
      device->rope_backward(dq, dk, dv, table, dqkv);
      for (int64_t t = 0; t < of.tokens; t++)
        for (int64_t head = 0; head < of.queries + 2 * of.groups; head++)
          for (int64_t i = 0; i < of.dim; i++) {
            const int64_t at = t * of.width() + head * of.dim + i, g = (head - of.queries) % of.groups;
            const auto begin = [&](int64_t h) { return (h * of.tokens + t) * of.dim; };
            if (head < of.queries)
              expect_close(dqkv, at, rotated(of, table, t, dq, begin(head), i, true), 2, 4);
            else if (head < of.queries + of.groups)
              expect_close(dqkv, at, rotated(of, table, t, dk, begin(g), i, true), 2, 4);
            else
              ASSERT_EQ(dqkv[at], dv[begin(g) + i]);
          }
    }
}

}  // namespace
}  // namespace llama_tp
