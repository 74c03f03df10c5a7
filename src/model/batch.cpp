#include "model/batch.h"

#include <algorithm>

#include "base/parts.h"

namespace llama_tp {

void HostBatch::clear() {
  for (auto* values : {&ids, &targets, &positions, &slots, &ranges}) values->clear();
  rotary.clear();
  tokens = longest_query = longest_key = 0;
}

int64_t causal_pairs(int64_t queries, int64_t past, int64_t window) {
  // The first ones see all keys up to their own; the window cuts those of the rest.
  const int64_t whole = window > 0 ? std::clamp<int64_t>(window - past, 0, queries) : queries;
  return whole * past + whole * (whole + 1) / 2 + (queries - whole) * window;
}

void HostBatch::append_range(int64_t count, int64_t past, int64_t first_key, int64_t length) {
  const int64_t keys = past + count;
  for (const int64_t value : {tokens, count, first_key, keys}) ranges.push_back(static_cast<int32_t>(value));
  longest_query = std::max(longest_query, count);
  longest_key = std::max(longest_key, keys);
  rotary.push_back({count, std::max(length, keys)});
  tokens += count;
}

void HostBatch::append(std::span<const int32_t> sequence, std::span<const int32_t> following, int64_t past,
                       int64_t first_key, int64_t length) {
  const auto count = static_cast<int64_t>(sequence.size());
  for (int64_t i = 0; i < count; i++) {
    ids.push_back(sequence[static_cast<size_t>(i)]);
    targets.push_back(following.empty() ? ignored_label : following[static_cast<size_t>(i)]);
    positions.push_back(static_cast<int32_t>(past + i));
    slots.push_back(static_cast<int32_t>(first_key + past + i));
  }
  append_range(count, past, first_key, length);
}

Batch push_batch(Arena& arena, int64_t tokens, int64_t sequences, int64_t window) {
  Batch batch;
  batch.window = window;
  const int64_t stride = round_up(tokens, int64_t{4});
  batch.numbers = arena.push(Category::data, {4 * stride + 4 * sequences}, DType::i32);
  int64_t at = 0;
  for (Tensor* tensor : {&batch.ids, &batch.targets, &batch.positions, &batch.slots}) {
    *tensor = batch.numbers.rows(at, tokens);
    at += stride;
  }
  batch.sequences.ranges = batch.numbers.rows(at, 4 * sequences).reshaped({sequences, 4});
  if (!arena.rehearses()) batch.staging.resize(static_cast<size_t>(batch.numbers.elements()));
  batch.rotary.reserve(static_cast<size_t>(sequences));
  return batch;
}

namespace {

void pack(const HostBatch& host, Batch& batch) {
  const auto put = [&](const std::vector<int32_t>& values, const Tensor& at) {
    std::copy(values.begin(), values.end(), batch.staging.begin() + (at.as<int32_t>() - batch.numbers.as<int32_t>()));
  };
  put(host.ids, batch.ids);
  put(host.targets, batch.targets);
  put(host.positions, batch.positions);
  put(host.slots, batch.slots);
  put(host.ranges, batch.sequences.ranges);
}

}  // namespace

void upload(Backend& backend, const HostBatch& host, Batch& batch) {
  const auto sequences = static_cast<int64_t>(host.ranges.size() / 4);
  require(host.tokens == batch.tokens() && sequences == batch.sequences.ranges.shape[0], "a batch of ", host.tokens,
          " tokens in ", sequences, " sequences does not fit tensors of ", batch.tokens(), " and ",
          batch.sequences.ranges.shape[0]);
  if (!batch.staging.empty()) pack(host, batch);
  backend.upload(batch.staging.data(), batch.numbers);
  batch.sequences.longest_query = host.longest_query;
  batch.sequences.longest_key = host.longest_key;
  batch.sequences.count = batch.sequences.pairs = batch.sequences.windowed_pairs = 0;
  for (size_t range = 0; range < host.ranges.size(); range += 4) {
    const int64_t queries = host.ranges[range + 1], past = host.ranges[range + 3] - queries;
    if (queries > 0) batch.sequences.count = static_cast<int64_t>(range) / 4 + 1;
    batch.sequences.pairs += causal_pairs(queries, past, 0);
    batch.sequences.windowed_pairs += causal_pairs(queries, past, batch.window);
  }
  batch.rotary = host.rotary;
}

}  // namespace llama_tp
