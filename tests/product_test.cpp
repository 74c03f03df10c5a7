// What cuBLASLt is asked for, computed by its definition in column-major words, is what backend.h's products say in
// row-major ones. Values are small integers, so every sum is exact.
#include "backend/cuda/product.h"

#include <gtest/gtest.h>

#include <vector>

namespace llama_tp {
namespace {

constexpr int64_t T = 3, N = 4, K = 5;

struct Matrix {
  Matrix(const Shape& shape, int salt) : values(static_cast<size_t>(shape.elements())) {
    for (size_t i = 0; i < values.size(); i++)
      values[i] = static_cast<float>((i * 7 + static_cast<size_t>(salt)) % 11) - 5;
    tensor = {values.data(), DType::f32, shape};
  }
  // Row-major.
  float operator()(int64_t row, int64_t column) const {
    return values[static_cast<size_t>(row * tensor.shape[1] + column)];
  }
  std::vector<float> values;
  Tensor tensor;
};

// Element (row, column) of a column-major matrix of so many rows.
float at(const Matrix& stored, int64_t rows, int64_t row, int64_t column) {
  return stored.values[static_cast<size_t>(column * rows + row)];
}

// By the definition of Product.
void compute(const Product& product, const Matrix& a, const Matrix& b, const float* bias, Matrix& c) {
  ASSERT_EQ(product.rows_of_a() * product.columns_of_a(), static_cast<int64_t>(a.values.size()));
  ASSERT_EQ(product.rows_of_b() * product.columns_of_b(), static_cast<int64_t>(b.values.size()));
  ASSERT_EQ(product.m * product.n, static_cast<int64_t>(c.values.size()));
  for (int64_t i = 0; i < product.m; i++)
    for (int64_t j = 0; j < product.n; j++) {
      float& to = c.values[static_cast<size_t>(j * product.m + i)];
      float sum = (product.accumulate ? to : 0) + (product.bias ? bias[i] : 0);
      for (int64_t l = 0; l < product.k; l++)
        sum += (product.transpose_a ? at(a, product.k, l, i) : at(a, product.m, i, l)) *
               (product.transpose_b ? at(b, product.n, j, l) : at(b, product.k, l, j));
      to = sum;
    }
}

TEST(Product, ForwardIsXTimesWTransposedPlusBias) {
  const Matrix x({T, K}, 1), w({N, K}, 2), bias({N, 1}, 3);
  for (const bool biased : {false, true}) {
    Matrix y({T, N}, 4);
    const Tensor given = biased ? Tensor{nullptr, DType::f32, {N}} : Tensor{};
    compute(forward_product(x.tensor, w.tensor, given, y.tensor), w, x, bias.values.data(), y);
    for (int64_t t = 0; t < T; t++)
      for (int64_t n = 0; n < N; n++) {
        float expected = biased ? bias(n, 0) : 0;
        for (int64_t k = 0; k < K; k++) expected += x(t, k) * w(n, k);
        EXPECT_EQ(y(t, n), expected) << t << ", " << n;
      }
  }
}

TEST(Product, BackwardOfTheInputIsDyTimesW) {
  const Matrix dy({T, N}, 1), w({N, K}, 2);
  Matrix dx({T, K}, 3);
  compute(backward_input_product(dy.tensor, w.tensor), w, dy, nullptr, dx);
  for (int64_t t = 0; t < T; t++)
    for (int64_t k = 0; k < K; k++) {
      float expected = 0;
      for (int64_t n = 0; n < N; n++) expected += dy(t, n) * w(n, k);
      EXPECT_EQ(dx(t, k), expected) << t << ", " << k;
    }
}

TEST(Product, BackwardOfTheWeightAddsDyTransposedTimesX) {
  const Matrix dy({T, N}, 1), x({T, K}, 2), before({N, K}, 3);
  Matrix dw = before;
  compute(backward_weight_product(dy.tensor, x.tensor), x, dy, nullptr, dw);
  for (int64_t n = 0; n < N; n++)
    for (int64_t k = 0; k < K; k++) {
      float expected = before(n, k);
      for (int64_t t = 0; t < T; t++) expected += dy(t, n) * x(t, k);
      EXPECT_EQ(dw(n, k), expected) << n << ", " << k;
    }
}

TEST(Product, GradientsOfWeightsAreF32WhateverTheFactorsAre) {
  const Tensor dy{nullptr, DType::bf16, {T, N}}, x{nullptr, DType::bf16, {T, K}};
  EXPECT_EQ(backward_weight_product(dy, x).in, DType::bf16);
  EXPECT_EQ(backward_weight_product(dy, x).out, DType::f32);
  EXPECT_EQ(backward_input_product(dy, {nullptr, DType::bf16, {N, K}}).out, DType::bf16);
}

}  // namespace
}  // namespace llama_tp
