#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace llama_tp {

ScheduleKind schedule_named(const std::string& word) {
  if (word == "constant" || word == "constant_with_warmup") return ScheduleKind::constant;
  if (word == "linear") return ScheduleKind::linear;
  if (word == "cosine") return ScheduleKind::cosine;
  fail("--lr-scheduler-type ", word, " is not known; it can be constant, linear or cosine");
}

std::string name_of(ScheduleKind kind) {
  return kind == ScheduleKind::constant ? "constant" : kind == ScheduleKind::linear ? "linear" : "cosine";
}

double Schedule::rate(int64_t step) const {
  const auto done = static_cast<double>(step - 1), warmup = static_cast<double>(warmup_steps),
             all = static_cast<double>(steps);
  if (done < warmup) return learning_rate * done / std::max(1.0, warmup);
  if (kind == ScheduleKind::constant) return learning_rate;
  if (kind == ScheduleKind::linear) return learning_rate * std::max(0.0, (all - done) / std::max(1.0, all - warmup));
  const double progress = (done - warmup) / std::max(1.0, all - warmup);
  return learning_rate * std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
}

}  // namespace llama_tp
