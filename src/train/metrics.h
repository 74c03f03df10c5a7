// metrics.jsonl in the output folder: a line a step.
#pragma once

#include <fstream>
#include <string>

#include "report/progress.h"

namespace llama_tp {

class MetricsFile {
 public:
  // A new or emptied file. Errors: not writable.
  explicit MetricsFile(const std::string& path);
  // Appends and flushes a line: step, epoch, loss, grad_norm, learning_rate, tokens, tokens_per_second, seconds,
  // peak_memory_bytes, and eval_loss where the step was followed by an evaluation.
  void append(const StepMetrics& metrics);

 private:
  std::string path_;
  std::ofstream stream_;
};

}  // namespace llama_tp
