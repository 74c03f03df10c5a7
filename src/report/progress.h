// How a training run looks: on a terminal one line that is rewritten at every step, with lines that stay at every
// logging step; into a file the lines that stay alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "report/stopwatch.h"

namespace llama_tp {

// One step as metrics.jsonl and the progress line have it.
struct StepMetrics {
  int64_t step = 0, steps = 0;
  double epoch = 0, loss = 0, gradient_norm = 0, learning_rate = 0;
  int64_t tokens = 0;  // read so far, those among them whose loss does not count
  double tokens_per_second = 0;
  double model_flops_per_second = 0;  // of a rank (train/model_flops.h)
  double seconds = 0;                 // of this step
  int64_t peak_memory_bytes = 0;      // of the rank that has most: in use on its device, else resident at its highest
  double evaluation_loss = -1;        // below 0: not evaluated at this step
};

class Progress {
 public:
  // columns: the terminal's width, 0 where stdout is none.
  Progress(int columns, int64_t steps, int64_t logging_steps);

  void show(const StepMetrics& metrics);
  // A line of its own, above the progress line.
  void say(const std::string& line);

 private:
  void clear();
  // Until the last step, as the run went so far: between steps it evaluates and saves, too.
  double remaining_seconds(const StepMetrics& metrics);

  int columns_;
  int64_t steps_, logging_steps_;
  std::optional<Stopwatch> since_first_;  // of the steps shown, which is slower than the others
  int64_t first_step_ = 0;
  bool open_ = false;  // an unfinished line stands on the terminal
};

}  // namespace llama_tp
