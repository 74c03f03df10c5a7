#include "io/pack_sequences.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

namespace llama_tp {

namespace {

// The sequences of each sample.
std::vector<std::vector<int64_t>> best_fit_decreasing(const Dataset& data, int64_t block_size) {
  const auto length = [&](int64_t i) { return static_cast<int64_t>(data.sequence(i).tokens.size()); };
  std::vector<int64_t> order(static_cast<size_t>(data.sequences()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  std::vector<std::vector<int64_t>> samples;
  std::set<std::pair<int64_t, size_t>> room;  // {tokens, sample}
  for (const int64_t i : order) {
    const auto fitting = room.lower_bound({length(i), 0});
    const auto [left, sample] = fitting != room.end() ? *fitting : std::pair(block_size, samples.size());
    if (fitting != room.end())
      room.erase(fitting);
    else
      samples.emplace_back();
    samples[sample].push_back(i);
    room.insert({left - length(i), sample});
  }
  return samples;
}

}  // namespace

void pack_sequences(Dataset& data, int64_t block_size) {
  Dataset packed;
  packed.blocks = {0};
  for (const std::vector<int64_t>& sample : best_fit_decreasing(data, block_size)) {
    for (const int64_t i : sample) {
      const Sample sequence = data.sequence(i);
      packed.tokens.insert(packed.tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
      if (!data.labels.empty())
        packed.labels.insert(packed.labels.end(), sequence.labels.begin(), sequence.labels.end());
      packed.starts.push_back(static_cast<int64_t>(packed.tokens.size()));
    }
    packed.blocks.push_back(packed.sequences());
  }
  data.tokens = std::move(packed.tokens);
  data.labels = std::move(packed.labels);
  data.starts = std::move(packed.starts);
  data.blocks = std::move(packed.blocks);
}

}  // namespace llama_tp
