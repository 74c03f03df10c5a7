#include "train/metrics.h"

#include <fstream>

#include "base/json.h"

namespace llama_tp {

namespace {

// Bytes of the first lines that are whole and of a step up to `done`; a killed run may have left more than it saved.
int64_t bytes_until(const std::string& path, int64_t done) {
  std::ifstream file(path, std::ios::binary);
  int64_t bytes = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    const Json parsed = parse_json_or_discard(line);
    const auto step = parsed.is_object() ? parsed.find("step") : parsed.end();
    if (step == parsed.end() || !step->is_number_integer() || step->get<int64_t>() > done) break;
    bytes += static_cast<int64_t>(line.size()) + 1;
  }
  return bytes;
}

}  // namespace

bool has_metrics_until(const std::string& path, int64_t done) { return bytes_until(path, done) > 0; }

MetricsFile::MetricsFile(const std::string& path, int64_t done) : file_(File::create(path, bytes_until(path, done))) {}

void MetricsFile::append(const StepMetrics& metrics) {
  OrderedJson line{{"step", metrics.step},
                   {"epoch", metrics.epoch},
                   {"loss", metrics.loss},
                   {"grad_norm", metrics.gradient_norm},
                   {"learning_rate", metrics.learning_rate},
                   {"tokens", metrics.tokens},
                   {"tokens_per_second", metrics.tokens_per_second},
                   {"model_flops_per_second", metrics.model_flops_per_second},
                   {"seconds", metrics.seconds},
                   {"peak_memory_bytes", metrics.peak_memory_bytes}};
  if (metrics.evaluation_loss >= 0) line["eval_loss"] = metrics.evaluation_loss;
  const std::string written = json_text(line) + "\n";
  file_.write(written.data(), std::ssize(written), file_.size());
}

void MetricsFile::sync() const { file_.sync(); }

}  // namespace llama_tp
