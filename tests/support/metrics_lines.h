// Two runs' lines of metrics.jsonl, step by step.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

namespace llama_tp {

// Of a loss and of a norm, in parts of it.
struct StepTolerance {
  double loss, norm;
};

void expect_equal_bits(const std::vector<nlohmann::json>& a, const std::vector<nlohmann::json>& b);
// What does not depend on rounding is equal.
void expect_close(const std::vector<nlohmann::json>& a, const std::vector<nlohmann::json>& b,
                  const StepTolerance& tolerance);

}  // namespace llama_tp
