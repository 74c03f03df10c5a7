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

// The sequences of one array in another order. starts: where each begins.
std::vector<int32_t> reordered(std::span<const int32_t> array, std::span<const int64_t> starts,
                               const std::vector<std::vector<int64_t>>& samples) {
  std::vector<int32_t> out;
  out.reserve(array.size());
  for (const std::vector<int64_t>& sample : samples)
    for (const auto i : sample)
      out.insert(out.end(), array.begin() + starts[static_cast<size_t>(i)],
                 array.begin() + starts[static_cast<size_t>(i) + 1]);
  return out;
}

}  // namespace

// One array after the other, for each is in memory twice on the way.
void pack_sequences(Dataset& data, int64_t block_size) {
  const std::vector<std::vector<int64_t>> samples = best_fit_decreasing(data, block_size);
  data.tokens = reordered(data.tokens, data.starts, samples);
  if (!data.labels.empty()) data.labels = reordered(data.labels, data.starts, samples);
  std::vector<int64_t> starts{0}, blocks{0};
  for (const std::vector<int64_t>& sample : samples) {
    for (const int64_t i : sample)
      starts.push_back(starts.back() + data.starts[static_cast<size_t>(i) + 1] - data.starts[static_cast<size_t>(i)]);
    blocks.push_back(std::ssize(starts) - 1);
  }
  data.starts = std::move(starts);
  data.blocks = std::move(blocks);
}

}  // namespace llama_tp
