#include "report/progress.h"

#include <algorithm>
#include <cstdio>

#include "report/format.h"

namespace llama_tp {

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

double Progress::remaining_seconds(const StepMetrics& metrics) {
  if (!since_first_) {
    since_first_.emplace();
    first_step_ = metrics.step;
  }
  const int64_t timed = metrics.step - first_step_;
  const double each = timed > 0 ? since_first_->seconds() / static_cast<double>(timed) : metrics.seconds;
  return each * static_cast<double>(steps_ - metrics.step);
}

void Progress::show(const StepMetrics& metrics) {
  const double remaining = remaining_seconds(metrics);
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
  line += "  ETA " + duration_text(remaining);
  line.resize(std::min(line.size(), static_cast<size_t>(columns_ - 1)));
  std::printf("%s", line.c_str());
  std::fflush(stdout);
  open_ = true;
}

}  // namespace llama_tp
