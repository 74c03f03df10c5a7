#include "support/metrics_lines.h"

#include <gtest/gtest.h>

namespace llama_tp {

void expect_equal_bits(const std::vector<nlohmann::json>& a, const std::vector<nlohmann::json>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++)
    for (const char* key : {"step", "epoch", "loss", "grad_norm", "learning_rate", "tokens"})
      EXPECT_EQ(a[i][key], b[i][key]) << key << " of line " << i + 1;
}

void expect_close(const std::vector<nlohmann::json>& a, const std::vector<nlohmann::json>& b,
                  const StepTolerance& tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) {
    for (const char* exact : {"step", "epoch", "learning_rate", "tokens"}) EXPECT_EQ(a[i][exact], b[i][exact]);
    EXPECT_NEAR(a[i]["loss"], b[i]["loss"], tolerance.loss * double(b[i]["loss"])) << "line " << i + 1;
    EXPECT_NEAR(a[i]["grad_norm"], b[i]["grad_norm"], tolerance.norm * double(b[i]["grad_norm"])) << "line " << i + 1;
  }
}

}  // namespace llama_tp
