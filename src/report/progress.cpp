#include "report/progress.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "report/format.h"

namespace llama_tp {

namespace {

// The weight of a new step in the running mean that the ETA uses.
constexpr double mean_weight = 0.1;

}  // namespace

Progress::Progress(int columns, int64_t steps, int64_t logging_steps)
    : columns_(columns), steps_(steps), logging_steps_(logging_steps) {}

void Progress::clear() {
  if (open_) std::printf("\r\033[K");
  open_ = false;
}

void Progress::say(const std::string& line) {
  clear();
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

void Progress::show(const StepMetrics& metrics) {
  mean_seconds_ =
      mean_seconds_ == 0 ? metrics.seconds : (1 - mean_weight) * mean_seconds_ + mean_weight * metrics.seconds;
  const auto width = static_cast<int>(std::to_string(steps_).size());
  std::string line = "step " + padded(std::to_string(metrics.step), width) + "/" + std::to_string(steps_) + "  loss " +
                     padded(fixed(metrics.loss, 4), 7) + "  grad norm " + padded(fixed(metrics.gradient_norm, 2), 6) +
                     "  lr " + scientific(metrics.learning_rate) + "  " +
                     padded(with_commas(static_cast<int64_t>(metrics.tokens_per_second)), 7) + " tok/s";
  const bool stays = metrics.step % logging_steps_ == 0 || metrics.step == steps_ || metrics.step == 1;
  if (metrics.evaluation_loss >= 0) line += "  eval loss " + fixed(metrics.evaluation_loss, 4);
  if (stays || metrics.evaluation_loss >= 0) say(line);
  if (columns_ == 0 || metrics.step == steps_) return;
  clear();
  line += "  ETA " + duration_text(mean_seconds_ * static_cast<double>(steps_ - metrics.step));
  line.resize(std::min(line.size(), static_cast<size_t>(columns_ - 1)));
  std::printf("%s", line.c_str());
  std::fflush(stdout);
  open_ = true;
}

int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") {
      int64_t kibibytes = 0;
      status >> kibibytes;
      return kibibytes * 1024;
    }
  return 0;
}

}  // namespace llama_tp
