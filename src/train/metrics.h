// metrics.jsonl in the output folder: a line a step.
#pragma once

#include <cstdint>
#include <string>

#include "io/files.h"
#include "report/progress.h"

namespace llama_tp {

// Whether a file begins with lines of steps up to `done`.
bool has_metrics_until(const std::string& path, int64_t done);

class MetricsFile {
 public:
  // Cuts the file off after the last line of a step up to `done`, 0: of none; makes it where it is absent. Errors:
  // File::create's.
  MetricsFile(const std::string& path, int64_t done);
  // Appends a line: step, epoch, loss, grad_norm, learning_rate, tokens, tokens_per_second, model_flops_per_second,
  // seconds, peak_memory_bytes (docs/training.md tells them), and eval_loss where the step was followed by an
  // evaluation. Errors: File::write's.
  void append(const StepMetrics& metrics);
  // Returns when all lines are on the disk.
  void sync() const;

 private:
  File file_;
};

}  // namespace llama_tp
