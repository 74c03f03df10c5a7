#include "train/batches.h"

#include <algorithm>

namespace llama_tp {

namespace {

// append(length) for each of the sequences of their own that fill up `tokens` and count for nothing.
template <typename Append>
void fill_up(int64_t tokens, int64_t block_size, const Append& append) {
  for (; tokens > 0; tokens -= block_size) append(std::min(tokens, block_size));
}

// Sequences without a token, as many as are missing.
void append_empty_ranges(const BatchShape& shape, HostBatch& batch) {
  const auto end = static_cast<int32_t>(batch.tokens);
  while (static_cast<int64_t>(batch.ranges.size()) < 4 * shape.sequences())
    batch.ranges.insert(batch.ranges.end(), {end, 0, end, 0});
}

}  // namespace

void fill_batch(const Dataset& data, const std::vector<int64_t>& samples, const BatchShape& shape, HostBatch& batch) {
  batch.clear();
  std::vector<int32_t> targets;
  for (const int64_t index : samples)
    for (int64_t i = data.first_sequence(index); i < data.first_sequence(index + 1); i++) {
      const Sample sequence = data.sequence(i);
      targets.resize(sequence.tokens.size());
      shifted_targets(sequence, targets);
      batch.append(sequence.tokens, targets, 0, batch.tokens);
    }
  fill_up(shape.tokens() - batch.tokens, shape.block_size, [&](int64_t length) {
    batch.append(std::vector<int32_t>(static_cast<size_t>(length), 0), {}, 0, batch.tokens);
  });
  append_empty_ranges(shape, batch);
}

void outline_batch(const BatchShape& shape, HostBatch& batch) {
  batch.clear();
  fill_up(shape.tokens(), shape.block_size, [&](int64_t length) { batch.append_range(length, 0, batch.tokens); });
  append_empty_ranges(shape, batch);
}

void check_forward_tokens(int64_t micro_batch, int64_t block_size) {
  require(block_size <= most_forward_tokens / micro_batch, "--per-device-train-batch-size ", micro_batch,
          " × --block-size ", block_size, " is more than ", most_forward_tokens, " tokens of a forward");
}

int64_t count_targets(const Dataset& data, const std::vector<int64_t>& samples) {
  int64_t count = 0;
  for (const int64_t index : samples) count += count_targets(data, index);
  return count;
}

int64_t dividing_micro_batch(int64_t global_batch, int64_t most, int64_t data_ranks) {
  int64_t samples = most;
  while (samples > 0 && global_batch % (samples * data_ranks) != 0) samples--;
  return samples;
}

int64_t accumulation_for(int64_t global_batch, int64_t micro_batch, int64_t data_ranks) {
  const int64_t forward = micro_batch * data_ranks, forwards = global_batch / forward;
  const std::string nearest =
      forwards == 0 ? text("is ", forward) : text("are ", forwards * forward, " and ", (forwards + 1) * forward);
  const int64_t divides = dividing_micro_batch(global_batch, micro_batch, data_ranks);
  require(global_batch % forward == 0, "--global-batch-size ", global_batch,
          " is no multiple of --per-device-train-batch-size ", micro_batch, " × ", data_ranks,
          " ranks with data of their own (", forward, "); give ",
          divides > 0 ? text("--per-device-train-batch-size ", divides, ", or ") : "",
          "another --global-batch-size: the nearest ", nearest);
  return forwards;
}

EpochBatches::EpochBatches(const Dataset& data, BatchShape shape, uint64_t seed)
    : data_(data), shape_(shape), seed_(seed) {}

int64_t EpochBatches::steps_per_epoch() const {
  return (data_.samples() + shape_.global_batch() - 1) / shape_.global_batch();
}

std::vector<int64_t> EpochBatches::global(int64_t step) {
  const int64_t epoch = (step - 1) / steps_per_epoch(), first = (step - 1) % steps_per_epoch() * shape_.global_batch();
  if (epoch != epoch_) {
    order_ = std::make_unique<SampleOrder>(data_.samples(), seed_, epoch);
    epoch_ = epoch;
  }
  std::vector<int64_t> samples;
  for (int64_t i = first; i < std::min(first + shape_.global_batch(), data_.samples()); i++)
    samples.push_back((*order_)[i]);
  return samples;
}

std::vector<int64_t> EpochBatches::local(const std::vector<int64_t>& global, int64_t micro, int64_t data_rank) const {
  const auto size = static_cast<int64_t>(global.size());
  const int64_t first = std::min(size, shape_.first_sample(micro, data_rank));
  const int64_t last = std::min(size, first + shape_.micro_batch);
  return {global.begin() + first, global.begin() + last};
}

}  // namespace llama_tp
