#include "train/metrics.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace llama_tp {

MetricsFile::MetricsFile(const std::string& path) : path_(path), stream_(path, std::ios::trunc) {
  require(stream_.good(), path, ": cannot be written; check the folder's permissions");
}

void MetricsFile::append(const StepMetrics& metrics) {
  nlohmann::ordered_json line{{"step", metrics.step},
                              {"epoch", metrics.epoch},
                              {"loss", metrics.loss},
                              {"grad_norm", metrics.gradient_norm},
                              {"learning_rate", metrics.learning_rate},
                              {"tokens", metrics.tokens},
                              {"tokens_per_second", metrics.tokens_per_second},
                              {"seconds", metrics.seconds},
                              {"peak_memory_bytes", metrics.peak_memory_bytes}};
  if (metrics.evaluation_loss >= 0) line["eval_loss"] = metrics.evaluation_loss;
  stream_ << line.dump() << '\n' << std::flush;
  require(stream_.good(), path_, ": a line could not be written; the disk may be full");
}

}  // namespace llama_tp
