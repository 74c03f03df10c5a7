// Which samples belong to which step, and a micro-batch's samples as the model sees them. The order depends on the seed
// alone: a global batch holds the same samples on any mesh; data-parallel ranks take different ones of it,
// tensor-parallel ranks the same.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/parts.h"
#include "io/dataset.h"
#include "io/sample_order.h"
#include "model/batch.h"

namespace llama_tp {

struct BatchShape {
  int64_t micro_batch = 8;   // samples of one forward on one rank
  int64_t accumulation = 1;  // forwards of a step
  int64_t data_ranks = 1;
  int64_t block_size = 0;        // the most tokens of a sample
  int64_t sequence_ranks = 1;    // tensor-parallel ranks that divide the tokens of a forward (sequence parallelism)
  int64_t sample_sequences = 1;  // the most sequences of a sample (packing)

  int64_t global_batch() const { return micro_batch * accumulation * data_ranks; }
  // The place in the global batch of the first sample of a data rank's forward.
  int64_t first_sample(int64_t micro, int64_t data_rank) const {
    return (micro * data_ranks + data_rank) * micro_batch;
  }
  // Of a forward; what its samples leave is filled up with tokens that count for nothing.
  int64_t tokens() const { return round_up(micro_batch * block_size, sequence_ranks); }
  // Ranges of a forward's sequences: its samples' and the pieces that fill up.
  int64_t sequences() const { return micro_batch * sample_sequences + ceil_div(tokens(), block_size); }
};

// Of a forward, as far as its sizes are looked at.
constexpr int64_t most_forward_tokens = int64_t{1} << 22;
// Errors: samples of this length that are more tokens together.
void check_forward_tokens(int64_t micro_batch, int64_t block_size);

// The largest micro-batch of `most` samples or fewer that `data_ranks` ranks can make up `global_batch` samples of; 0:
// none. A global_batch of 0 is free: any does.
int64_t dividing_micro_batch(int64_t global_batch, int64_t most, int64_t data_ranks);

// Forwards of a step of `global_batch` samples. Errors: no number of them takes as many; the micro-batch of which one
// does, and the nearest global batches.
int64_t accumulation_for(int64_t global_batch, int64_t micro_batch, int64_t data_ranks);

// The sequences of the samples in order, each seeing itself alone, then as many tokens as are missing, in sequences of
// their own whose targets are ignored.
void fill_batch(const Dataset& data, const std::vector<int64_t>& samples, const BatchShape& shape, HostBatch& batch);
// The ranges of fill_batch with no samples, without its tokens: for a rehearsal.
void outline_batch(const BatchShape& shape, HostBatch& batch);
// The targets of these samples that count.
int64_t count_targets(const Dataset& data, const std::vector<int64_t>& samples);

class EpochBatches {
 public:
  EpochBatches(const Dataset& data, BatchShape shape, uint64_t seed);

  // The last step of an epoch takes what is left.
  int64_t steps_per_epoch() const;
  // Samples of a whole step, from 1.
  std::vector<int64_t> global(int64_t step);
  // Those of one forward of a data rank, some or none: micro_batch of the global batch from first_sample on.
  std::vector<int64_t> local(const std::vector<int64_t>& global, int64_t micro, int64_t data_rank) const;

 private:
  const Dataset& data_;
  BatchShape shape_;
  uint64_t seed_;
  int64_t epoch_ = -1;
  std::unique_ptr<SampleOrder> order_;
};

}  // namespace llama_tp
