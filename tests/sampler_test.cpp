// The sampler against a slow plain version of llama.cpp's chain, and its draws against their probabilities.
#include "generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/random.h"

namespace llama_tp {
namespace {

std::vector<float> some_logits(size_t count, uint64_t seed) {
  std::vector<float> logits(count);
  fill_normal(logits.data(), static_cast<int64_t>(count), 2, seed, 1, 0);
  return logits;
}

int32_t sample(const SamplerOptions& options, std::vector<float> logits, uint64_t position,
               const std::vector<int32_t>& past = {}) {
  Sampler sampler(options);
  return sampler.sample(logits, past, 5, position);
}

// The probabilities of the chain: each filter by itself over a sorted list, in double.
std::map<int32_t, double> plain_probabilities(const SamplerOptions& options, std::vector<float> logits,
                                              const std::vector<int32_t>& past = {}) {
  std::vector<bool> seen(logits.size());
  for (size_t back = 1; back <= 64 && back <= past.size(); back++)
    seen[static_cast<size_t>(past[past.size() - back])] = true;
  for (size_t i = 0; i < logits.size(); i++)
    if (seen[i]) logits[i] = logits[i] > 0 ? logits[i] / options.repeat_penalty : logits[i] * options.repeat_penalty;
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](int32_t id) { return static_cast<double>(logits[static_cast<size_t>(id)]); };
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logit(a) > logit(b); });
  const auto probabilities = [&](double temperature) {
    std::vector<double> p;
    for (const int32_t id : order) p.push_back(std::exp((logit(id) - logit(order.front())) / temperature));
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& one : p) one /= sum;
    return p;
  };
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  std::vector<double> p = probabilities(1);
  size_t kept = 0;
  for (double sum = 0;
       kept < p.size() && (options.top_p >= 1 || kept == 0 || sum < static_cast<double>(options.top_p));)
    sum += p[kept++];
  order.resize(kept);
  p = probabilities(1);
  while (p.back() < static_cast<double>(options.min_p) * p.front()) p.pop_back();
  order.resize(p.size());
  p = probabilities(static_cast<double>(options.temperature));
  std::map<int32_t, double> result;
  for (size_t i = 0; i < p.size(); i++) result[order[i]] = p[i];
  return result;
}

constexpr int64_t draws = 100'000;

// A frequency of n draws is off by more than 5 standard deviations, √(p (1 − p) / n), once in 1.7 million; a thousand
// of them are looked at here, of draws that are always the same.
void expect_frequencies(const SamplerOptions& options, const std::vector<float>& logits,
                        const std::vector<int32_t>& past = {}) {
  const std::map<int32_t, double> expected = plain_probabilities(options, logits, past);
  std::map<int32_t, int64_t> drawn;
  Sampler sampler(options);
  for (uint64_t position = 0; position < draws; position++) {
    std::vector<float> changed = logits;
    drawn[sampler.sample(changed, past, 5, position)]++;
  }
  for (const auto& [id, count] : drawn) EXPECT_EQ(expected.count(id), 1u) << id << " was filtered out";
  for (const auto& [id, p] : expected)
    EXPECT_NEAR(static_cast<double>(drawn[id]) / draws, p, 5 * std::sqrt(p * (1 - p) / draws) + 1e-6) << id;
}

constexpr SamplerOptions all_of_them{.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 3};

SamplerOptions with(void (*change)(SamplerOptions&)) {
  SamplerOptions options = all_of_them;
  change(options);
  return options;
}

TEST(Sampler, FrequenciesAreTheProbabilitiesOfEveryFilterAndOfAllTogether) {
  const std::vector<float> logits = some_logits(50, 1);
  std::vector<int32_t> past(100);
  for (size_t i = 0; i < past.size(); i++) past[i] = static_cast<int32_t>(i % 50);
  expect_frequencies(all_of_them, logits);
  expect_frequencies(with([](auto& o) { o.temperature = 0.5f; }), logits);
  expect_frequencies(with([](auto& o) { o.temperature = 3; }), logits);
  expect_frequencies(with([](auto& o) { o.top_k = 4; }), logits);
  expect_frequencies(with([](auto& o) { o.top_k = 1000; }), logits);
  expect_frequencies(with([](auto& o) { o.top_p = 0.6f; }), logits);
  expect_frequencies(with([](auto& o) { o.top_p = 0; }), logits);
  expect_frequencies(with([](auto& o) { o.min_p = 0.1f; }), logits);
  expect_frequencies(with([](auto& o) { o.min_p = 1; }), logits);
  expect_frequencies(with([](auto& o) { o.repeat_penalty = 1.7f; }), logits, past);
  expect_frequencies(with([](auto& o) { o.repeat_penalty = 0.5f; }), logits, {7});
  expect_frequencies({.temperature = 0.8f, .top_k = 20, .top_p = 0.9f, .min_p = 0.05f, .repeat_penalty = 1.3f}, logits,
                     past);
}

// top-p keeps the first tokens that reach the share; min-p measures against the likeliest token; both look at the
// probabilities before the temperature, which is last.
TEST(Sampler, TheTemperatureChangesNoFilter) {
  const std::vector<float> logits = some_logits(200, 2);
  for (const float temperature : {0.3f, 1.0f, 5.0f}) {
    const SamplerOptions options{.temperature = temperature, .top_k = 0, .top_p = 0.9f, .min_p = 0.02f, .seed = 1};
    const SamplerOptions cold{.temperature = 1, .top_k = 0, .top_p = 0.9f, .min_p = 0.02f};
    const std::map<int32_t, double> kept = plain_probabilities(cold, logits);
    for (uint64_t position = 0; position < 2000; position++)
      EXPECT_EQ(kept.count(sample(options, logits, position)), 1u);
  }
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargestAfterThePenalty) {
  const SamplerOptions greedy{.temperature = 0, .repeat_penalty = 2};
  EXPECT_EQ(sample(greedy, {1, 3, 3, -1}, 0), 1);
  EXPECT_EQ(sample(greedy, {1, 3, 2.9f, -1}, 0, {1}), 2);
  EXPECT_EQ(sample(greedy, {-1, -1.5f}, 0, {0}), 1);  // a negative logit falls, too
  EXPECT_EQ(sample(greedy, {2, 3.9f}, 0, {1, 1, 1}), 0);
  EXPECT_EQ(sample(greedy, {2, 4.1f}, 0, {1, 1, 1}), 1);  // three times is no more than once
}

TEST(Sampler, ThePenaltyIsOfTheLast64TokensOnly) {
  const SamplerOptions greedy{.temperature = 0, .repeat_penalty = 2};
  std::vector<int32_t> past(64, 2);
  past.front() = 1;
  EXPECT_EQ(sample(greedy, {2, 3, 0}, 0, past), 0);
  past.push_back(2);
  EXPECT_EQ(sample(greedy, {2, 3, 0}, 0, past), 1);
}

TEST(Sampler, ATokenIsAFunctionOfSeedSequenceAndPosition) {
  const std::vector<float> logits = some_logits(1000, 4);
  SamplerOptions options = all_of_them;
  options.temperature = 2;
  int64_t same_seed = 0, same_position = 0, same_sequence = 0;
  Sampler used(options);
  for (uint64_t position = 0; position < 1000; position++) {
    std::vector<float> changed = logits;
    const int32_t token = used.sample(changed, {}, 5, position);
    EXPECT_EQ(sample(options, logits, position), token);  // whatever was drawn before
    SamplerOptions other = options;
    other.seed++;
    same_seed += sample(other, logits, position) == token;
    same_position += sample(options, logits, position + 1) == token;
    changed = logits;
    same_sequence += used.sample(changed, {}, 6, position) == token;
  }
  double chance = 0;  // of two draws to agree; 5 standard deviations above it in 1000 of them
  for (const auto& [id, p] : plain_probabilities(options, logits)) chance += p * p;
  for (const int64_t same : {same_seed, same_position, same_sequence})
    EXPECT_LT(static_cast<double>(same), 1000 * chance + 5 * std::sqrt(1000 * chance));
}

}  // namespace
}  // namespace llama_tp
