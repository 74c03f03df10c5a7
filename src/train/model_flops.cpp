#include "train/model_flops.h"

#include <algorithm>

#include "model/parameters.h"

namespace llama_tp {

namespace {

double real(int64_t value) { return static_cast<double>(value); }

// Parameters that a token is multiplied with. A tied embedding is the head's weight too, and multiplies.
double multiplying_parameters(const ModelConfig& config) {
  return real(parameter_count(config) - (config.tied ? 0 : config.vocabulary * config.hidden));
}

double of_sequence(const ModelConfig& config, double parameters, int64_t length) {
  double attention = 0;
  for (const int64_t of_layer : config.windows) {
    const double window = real(of_layer > 0 ? std::min(of_layer, length) : length);
    attention += real(config.heads * config.head_dim) * window * (2 - window / real(length));
  }
  return 6 * (parameters + attention) * real(length);
}

}  // namespace

StepFlops::StepFlops(const ModelConfig& config) : config_(config), parameters_(multiplying_parameters(config)) {}

double StepFlops::of(const Dataset& data, std::span<const int64_t> samples) const {
  double flops = 0;
  for (const int64_t sample : samples)
    for (int64_t i = data.first_sequence(sample); i < data.first_sequence(sample + 1); i++)
      flops += of_sequence(config_, parameters_, std::ssize(data.sequence(i).tokens));
  return flops;
}

double model_flops(const ModelConfig& config, const BatchShape& batch) {
  return of_sequence(config, multiplying_parameters(config), batch.block_size) * real(batch.global_batch());
}

}  // namespace llama_tp
