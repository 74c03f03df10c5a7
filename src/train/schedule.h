// Learning rates by step, as transformers' schedules have them; but `constant` has a warmup where one is asked for, and
// is transformers' constant_with_warmup.
#pragma once

#include <cstdint>
#include <string>

namespace llama_tp {

enum class ScheduleKind : uint8_t { constant, linear, cosine };
// "constant" or "constant_with_warmup", "linear", "cosine". Errors: another word.
ScheduleKind schedule_named(const std::string& word);
std::string name_of(ScheduleKind kind);

struct Schedule {
  ScheduleKind kind = ScheduleKind::linear;
  double learning_rate = 5e-5;
  int64_t warmup_steps = 0, steps = 1;

  // The rate of step k, from 1: what transformers' schedule gives for k − 1 (its first step of a warmup has rate 0).
  // constant: with a warmup it rises linearly and stays. linear: falls to 0 at `steps`. cosine: half a period down to
  // 0.
  double rate(int64_t step) const;
};

}  // namespace llama_tp
