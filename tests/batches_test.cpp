// Which samples a step takes, and a micro-batch as the model sees it, against plain loops.
#include "train/batches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace llama_tp {
namespace {

// Samples of the given lengths; token = 100 · sample + place; every third label is ignored.
Dataset dataset(const std::vector<int64_t>& lengths) {
  Dataset data;
  for (size_t s = 0; s < lengths.size(); s++) {
    for (int64_t i = 0; i < lengths[s]; i++) {
      data.tokens.own().push_back(static_cast<int32_t>(100 * static_cast<int64_t>(s) + i));
      data.labels.own().push_back(i % 3 == 2 ? ignored_label : data.tokens.own().back());
    }
    data.starts.own().push_back(static_cast<int64_t>(data.tokens.size()));
  }
  return data;
}

// Every way to make a global batch of 12 out of micro-batches, accumulation and data ranks.
std::vector<BatchShape> shapes_of_twelve() {
  std::vector<BatchShape> all;
  for (int64_t micro = 1; micro <= 12; micro++)
    for (int64_t ranks = 1; ranks <= 12; ranks++)
      if (12 % (micro * ranks) == 0) all.push_back({micro, 12 / (micro * ranks), ranks, 9});
  return all;
}

// What all data ranks take in all forwards of a step, in the order of the global batch.
std::vector<int64_t> taken(const EpochBatches& batches, const BatchShape& shape, const std::vector<int64_t>& global) {
  std::vector<int64_t> all;
  for (int64_t micro = 0; micro < shape.accumulation; micro++)
    for (int64_t rank = 0; rank < shape.data_ranks; rank++) {
      const std::vector<int64_t> local = batches.local(global, micro, rank);
      EXPECT_LE(static_cast<int64_t>(local.size()), shape.micro_batch);
      all.insert(all.end(), local.begin(), local.end());
    }
  return all;
}

TEST(Batches, AStepTakesTheSameSamplesHoweverItIsDivided) {
  const Dataset data = dataset(std::vector<int64_t>(31, 5));
  EpochBatches reference(data, {12, 1, 1, 9}, 7);
  EXPECT_EQ(shapes_of_twelve().size(), 18u);
  for (const BatchShape& shape : shapes_of_twelve()) {
    EpochBatches batches(data, shape, 7);
    EXPECT_EQ(batches.steps_per_epoch(), 3);
    for (int64_t step = 1; step <= 7; step++) {
      const std::vector<int64_t> global = batches.global(step);
      EXPECT_EQ(global, reference.global(step));
      EXPECT_EQ(taken(batches, shape, global), global);
    }
  }
}

TEST(Batches, AnEpochTakesEverySampleOnceInAnOrderOfItsOwn) {
  for (const int64_t samples : {1, 11, 12, 13, 24, 31}) {
    const Dataset data = dataset(std::vector<int64_t>(static_cast<size_t>(samples), 5));
    std::vector<std::vector<int64_t>> orders;
    for (const uint64_t seed : {7u, 7u, 8u}) {
      EpochBatches batches(data, {3, 2, 2, 9}, seed);
      const int64_t steps = batches.steps_per_epoch();
      EXPECT_EQ(steps, (samples + 11) / 12);
      for (int64_t epoch = 0; epoch < 2; epoch++) {
        std::vector<int64_t>& order = orders.emplace_back();
        for (int64_t step = 1; step <= steps; step++) {
          const std::vector<int64_t> global = batches.global(epoch * steps + step);
          EXPECT_EQ(static_cast<int64_t>(global.size()), step < steps ? 12 : samples - 12 * (steps - 1));
          order.insert(order.end(), global.begin(), global.end());
        }
        std::vector<int64_t> sorted = order, all(static_cast<size_t>(samples));
        std::sort(sorted.begin(), sorted.end());
        std::iota(all.begin(), all.end(), 0);
        EXPECT_EQ(sorted, all);
      }
      EXPECT_EQ(batches.global(1), EpochBatches(data, {3, 2, 2, 9}, seed).global(1));  // and back to the first epoch
    }
    EXPECT_EQ(orders[0], orders[2]);  // the same seed
    if (samples < 11) continue;       // few samples have few orders
    EXPECT_NE(orders[0], orders[1]);
    EXPECT_NE(orders[0], orders[4]);
  }
}

void expect_the_samples(const BatchShape& shape) {
  const Dataset data = dataset({5, 9, 1, 7, 9});
  for (const std::vector<int64_t>& samples : std::vector<std::vector<int64_t>>{{0, 1, 2}, {4, 1, 4}, {3}, {2, 2}, {}}) {
    HostBatch batch;
    fill_batch(data, {1, 1, 1}, shape, batch);  // what a buffer held before is gone
    fill_batch(data, samples, shape, batch);
    ASSERT_EQ(static_cast<int64_t>(batch.ids.size()), shape.tokens());
    ASSERT_EQ(static_cast<int64_t>(batch.ranges.size()), 4 * shape.sequences());
    for (const auto* values : {&batch.targets, &batch.positions, &batch.slots})
      EXPECT_EQ(values->size(), batch.ids.size());
    size_t at = 0, range = 0;
    int64_t targets = 0;
    for (const int64_t index : samples) {
      const Sample sample = data.sample(index);
      const auto length = static_cast<int32_t>(sample.tokens.size()), first = static_cast<int32_t>(at);
      EXPECT_EQ((std::vector<int32_t>(batch.ranges.begin() + static_cast<int64_t>(range),
                                      batch.ranges.begin() + static_cast<int64_t>(range) + 4)),
                (std::vector<int32_t>{first, length, first, length}));
      for (int32_t i = 0; i < length; i++, at++) {
        EXPECT_EQ(batch.ids[at], sample.tokens[static_cast<size_t>(i)]);
        EXPECT_EQ(batch.targets[at], i + 1 < length ? sample.labels[static_cast<size_t>(i) + 1] : ignored_label);
        EXPECT_EQ(batch.positions[at], i);
        EXPECT_EQ(batch.slots[at], static_cast<int32_t>(at));
        targets += batch.targets[at] != ignored_label;
      }
      range += 4;
    }
    EXPECT_EQ(count_targets(data, samples), targets);
    // What fills up: sequences of their own without targets, which reach no further than the block, together the rest.
    for (size_t i = at; i < batch.targets.size(); i++) EXPECT_EQ(batch.targets[i], ignored_label);
    for (size_t r = 0; r < batch.ranges.size(); r += 4) {
      const int64_t first = batch.ranges[r], count = batch.ranges[r + 1];
      EXPECT_LE(count, shape.block_size);
      if (r < range) continue;
      EXPECT_EQ(first, static_cast<int64_t>(at));
      for (int64_t i = 0; i < count; i++, at++) EXPECT_EQ(batch.positions[at], i);
    }
    EXPECT_EQ(at, batch.ids.size());
    // Each sequence, what fills up, too, has the rotary frequencies of its own length.
    for (size_t i = 0; i < batch.rotary.size(); i++) {
      EXPECT_EQ(batch.rotary[i].tokens, batch.ranges[4 * i + 1]);
      EXPECT_EQ(batch.rotary[i].length, batch.ranges[4 * i + 1]);
    }
    for (size_t r = 4 * batch.rotary.size(); r < batch.ranges.size(); r += 4) EXPECT_EQ(batch.ranges[r + 1], 0);
  }
}

TEST(Batches, PairsAreTheKeysThatEachQuerySees) {
  for (const int64_t queries : {1, 2, 7})
    for (const int64_t past : {0, 1, 5})
      for (const int64_t window : {0, 1, 2, 5, 6, 7, 100}) {
        int64_t pairs = 0;
        for (int64_t query = past; query < past + queries; query++)
          for (int64_t key = 0; key <= query; key++) pairs += window == 0 || query - key < window;
        EXPECT_EQ(causal_pairs(queries, past, window), pairs) << queries << " after " << past << ", " << window;
      }
}

TEST(Batches, TokensPositionsTargetsAndRangesAreTheSamples) {
  for (const auto& [sequence_ranks, tokens] : {std::pair<int64_t, int64_t>{1, 27}, {3, 27}, {2, 28}, {8, 32}}) {
    const BatchShape shape{3, 1, 1, 9, sequence_ranks};
    EXPECT_EQ(shape.tokens(), tokens);
    expect_the_samples(shape);
  }
}

TEST(Batches, RangesSufficeForEveryFilling) {
  for (int64_t micro = 1; micro <= 3; micro++)
    for (int64_t block = 1; block <= 5; block++)
      for (int64_t ranks = 1; ranks <= 8; ranks++)
        for (int64_t samples = 0; samples <= micro; samples++) {
          const BatchShape shape{micro, 1, 1, block, ranks};
          const Dataset data = dataset(std::vector<int64_t>(3, 1));
          std::vector<int64_t> taken(static_cast<size_t>(samples));
          HostBatch batch;
          fill_batch(data, taken, shape, batch);
          EXPECT_EQ(static_cast<int64_t>(batch.ids.size()), shape.tokens());
          EXPECT_EQ(shape.tokens() % ranks, 0);
          EXPECT_LT(shape.tokens() - micro * block, ranks);
          EXPECT_EQ(static_cast<int64_t>(batch.ranges.size()), 4 * shape.sequences());
        }
}

// A rehearsal may look at these alone, and a plan of millions of tokens holds none of them.
TEST(Batches, AnOutlineHasTheRangesOfABatchWithoutSamples) {
  for (int64_t micro = 1; micro <= 3; micro++)
    for (int64_t block = 1; block <= 5; block++)
      for (int64_t ranks = 1; ranks <= 8; ranks++) {
        const BatchShape shape{micro, 1, 1, block, ranks};
        HostBatch batch, outline;
        fill_batch(Dataset{}, {}, shape, batch);
        fill_batch(dataset({1}), {0}, shape, outline);  // what a buffer held before is gone
        outline_batch(shape, outline);
        EXPECT_TRUE(outline.ids.empty());
        EXPECT_EQ(outline.tokens, std::ssize(batch.ids));
        EXPECT_EQ(outline.ranges, batch.ranges);
        EXPECT_EQ(outline.longest_query, batch.longest_query);
        EXPECT_EQ(outline.longest_key, batch.longest_key);
        ASSERT_EQ(outline.rotary.size(), batch.rotary.size());
        for (size_t i = 0; i < batch.rotary.size(); i++) {
          EXPECT_EQ(outline.rotary[i].tokens, batch.rotary[i].tokens);
          EXPECT_EQ(outline.rotary[i].length, batch.rotary[i].length);
        }
      }
  Ledger ledger;
  Arena rehearsal("state", ledger);
  EXPECT_TRUE(push_batch(rehearsal, 1 << 20, 1, 0).staging.empty());
}

}  // namespace
}  // namespace llama_tp
