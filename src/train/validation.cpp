#include "train/validation.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace llama_tp {

// All take as many forwards: fsdp ranks gather their weights together.
double mean_loss(Trainer& trainer, const Dataset& data, const BatchShape& shape, const Mesh& mesh, HostBatch& batch) {
  double sum = 0;
  int64_t targets = 0;
  std::optional<HostBatch> spoiled;
  const int64_t round = shape.micro_batch * shape.data_ranks;
  for (int64_t begin = 0; begin < data.samples(); begin += round) {
    const int64_t first = begin + mesh.data_rank() * shape.micro_batch;
    std::vector<int64_t> samples;
    for (int64_t i = first; i < std::min(first + shape.micro_batch, data.samples()); i++) samples.push_back(i);
    fill_batch(data, samples, shape, batch);
    const double loss = trainer.evaluate(batch);
    if (!std::isfinite(loss) && !spoiled) spoiled = batch;
    sum += loss;
    targets += count_targets(data, samples);
  }
  if (spoiled) batch = *spoiled;
  double all = 0, count = 0;
  // Tensor ranks of one data rank have the same sums: each data rank is counted as often as it has tensor ranks.
  for (const double value : mesh.world().all_gather(sum)) all += value;
  for (const double value : mesh.world().all_gather(static_cast<double>(targets))) count += value;
  return all / std::max(1.0, count);
}

}  // namespace llama_tp
