// Products with few tokens, as when generating, and the bias's gradient, against plain loops in f64.
#include "operation_fixture.h"

namespace llama_tp {
namespace {

TEST(Linear, FewTokensTimesTheTransposedWeightPlusBias) {
  Random random(1);
  Device device;
  for (const DType dtype : activation_types)
    for (const DType output : {dtype, DType::f32})
      for (int64_t tokens = 1; tokens <= 8; tokens++)
        for (const auto& [n, k] :
             {std::pair<int64_t, int64_t>{1, 1}, {13, 37}, {40, 264}, {3, 1304}, {16, 8}, {17, 2088}, {24, 1024}})
          for (const bool with_bias : {false, true}) {
            const Owned x = random.normals({tokens, k}, dtype), w = random.normals({n, k}, dtype);
            const Owned bias = random.normals({n}, dtype), y({tokens, n}, output);
            device->linear_forward(x, w, with_bias ? static_cast<const Tensor&>(bias) : Tensor{}, y);
            for (int64_t t = 0; t < tokens; t++)
              for (int64_t i = 0; i < n; i++) {
                double sum = with_bias ? bias[i] : 0, terms = std::fabs(sum);
                for (int64_t j = 0; j < k; j++) {
                  const double product = x[t * k + j] * w[i * k + j];
                  sum += product, terms += std::fabs(product);
                }
                // A rounding for each product and sum at worst, of partial sums that are less than all terms.
                expect_close(y, t * n + i, sum, static_cast<double>(k + 2), terms);
              }
          }
}

TEST(Linear, BiasGradientAddsTheColumnsOfTheGradient) {
  Random random(2);
  Device device;
  for (const DType dtype : activation_types)
    for (const auto& [tokens, n] : {std::pair<int64_t, int64_t>{1, 1}, {9, 33}, {100, 70}, {1100, 72}}) {
      const Owned dy = random.normals({tokens, n}, dtype), before = random.normals({n}, DType::f32);
      const Owned db = before;
      device->bias_backward(dy, db);
      for (int64_t i = 0; i < n; i++) {
        double sum = before[i], terms = std::fabs(sum);
        for (int64_t t = 0; t < tokens; t++) sum += dy[t * n + i], terms += std::fabs(dy[t * n + i]);
        expect_close(db, i, sum, static_cast<double>(tokens + 1), terms);
      }
    }
}

}  // namespace
}  // namespace llama_tp
