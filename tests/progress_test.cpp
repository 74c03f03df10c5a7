// The progress line of a training run, as a terminal gets it.
#include "report/progress.h"

#include <gtest/gtest.h>

#include <chrono>
#include <sstream>
#include <thread>

namespace llama_tp {
namespace {

StepMetrics step_that_took(int64_t step, double seconds) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.seconds = seconds;
  return metrics;
}

// In seconds, from "ETA 1:02:03".
double eta_of(const std::string& line) {
  const size_t at = line.rfind("ETA ");
  if (at == std::string::npos) return -1;
  std::istringstream rest(line.substr(at + 4));
  double seconds = 0;
  for (std::string part; std::getline(rest, part, ':');) seconds = 60 * seconds + std::stod(part);
  return seconds;
}

std::string shown(Progress& progress, const StepMetrics& metrics) {
  testing::internal::CaptureStdout();
  progress.show(metrics);
  return testing::internal::GetCapturedStdout();
}

// A step is short beside the evaluation and the checkpoint that come after it.
TEST(Progress, TheTimeThatRemainsCountsWhatComesBetweenSteps) {
  constexpr int64_t steps = 100'000, first = 11;
  constexpr std::chrono::milliseconds between(20);
  Progress progress(200, steps, 10);
  EXPECT_NEAR(eta_of(shown(progress, step_that_took(first, 0.5))), 0.5 * (steps - first), 1);
  std::string line;
  for (int64_t step = first + 1; step <= first + 4; step++) {
    std::this_thread::sleep_for(between);
    line = shown(progress, step_that_took(step, 0.001));
  }
  EXPECT_GE(eta_of(line), 0.020 * (steps - first - 4) - 1) << line;
}

TEST(Progress, NothingIsForetoldBehindTheLastStep) {
  Progress progress(200, 2, 10);
  EXPECT_GE(eta_of(shown(progress, step_that_took(1, 3))), 3);
  EXPECT_EQ(eta_of(shown(progress, step_that_took(2, 3))), -1);
}

}  // namespace
}  // namespace llama_tp
