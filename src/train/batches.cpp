#include "train/batches.h"

#include <algorithm>

namespace llama_tp {

static_assert(ignored_label == ignored_target);

namespace {

// Sequences of their own that count for nothing.
void append_padding(int64_t tokens, int64_t block_size, HostBatch& batch) {
  while (tokens > 0) {
    const int64_t piece = std::min(tokens, block_size);
    const std::vector<int32_t> zeros(static_cast<size_t>(piece), 0);
    batch.append(zeros, {}, 0, static_cast<int64_t>(batch.ids.size()));
    tokens -= piece;
  }
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
      batch.append(sequence.tokens, targets, 0, static_cast<int64_t>(batch.ids.size()));
    }
  append_padding(shape.tokens() - static_cast<int64_t>(batch.ids.size()), shape.block_size, batch);
  const auto end = static_cast<int32_t>(batch.ids.size());
  while (static_cast<int64_t>(batch.ranges.size()) < 4 * shape.sequences())
    batch.ranges.insert(batch.ranges.end(), {end, 0, end, 0});
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

int64_t accumulation_for(int64_t global_batch, int64_t micro_batch, int64_t data_ranks) {
  const int64_t forward = micro_batch * data_ranks, forwards = global_batch / forward;
  const std::string nearest =
      forwards == 0 ? text("is ", forward) : text("are ", forwards * forward, " and ", (forwards + 1) * forward);
  require(global_batch % forward == 0, "--global-batch-size ", global_batch,
          " is no multiple of --per-device-train-batch-size ", micro_batch, " × ", data_ranks,
          " ranks with data of their own (", forward, "); the nearest ", nearest);
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
  const int64_t first = std::min(size, (micro * shape_.data_ranks + data_rank) * shape_.micro_batch);
  const int64_t last = std::min(size, first + shape_.micro_batch);
  return {global.begin() + first, global.begin() + last};
}

}  // namespace llama_tp
