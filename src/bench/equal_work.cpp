#include "bench/equal_work.h"

#include <numeric>

namespace llama_tp {

int64_t samples_of_forward(const Scheme& scheme) { return scheme.micro_batch * scheme.mesh.data_ranks(); }

int64_t fewest_equal_samples(const std::vector<Scheme>& schemes) {
  constexpr int64_t most = int64_t{1} << 31;
  int64_t samples = 1;
  for (const Scheme& scheme : schemes) {
    samples = std::lcm(samples, samples_of_forward(scheme));
    require(samples <= most, "--compare ", scheme.name, ": no step of fewer than ", most,
            " samples can be divided among all schemes; give them micro that divide each other");
  }
  return samples;
}

BatchShape smallest_batch(const Scheme& scheme, int64_t block_size) {
  require(block_size <= most_forward_tokens / scheme.micro_batch, "--compare ", scheme.name, ": ", scheme.micro_batch,
          " × ", block_size, " tokens are more than ", most_forward_tokens, " of a forward; lower micro or the sizes");
  return {scheme.micro_batch, 1, scheme.mesh.data_ranks(), block_size, scheme.sequence_ranks()};
}

BatchShape equal_batch(const Scheme& scheme, int64_t global_batch, int64_t block_size) {
  const int64_t samples = samples_of_forward(scheme);
  require(global_batch % samples == 0, "--compare ", scheme.name, ": --global-batch-size ", global_batch,
          " cannot be divided among the ", scheme.mesh.data_ranks(),
          " ranks that see data of their own in forwards of ", scheme.micro_batch, "; give a multiple of ", samples);
  BatchShape batch = smallest_batch(scheme, block_size);
  batch.accumulation = global_batch / samples;
  return batch;
}

TrainerOptions options_of(const Scheme& scheme, const BatchShape& batch) {
  return {batch, scheme.recompute, false, scheme.fsdp};
}

std::string forwards_words(const BatchShape& batch) { return text(batch.accumulation, " x ", batch.micro_batch); }

}  // namespace llama_tp
