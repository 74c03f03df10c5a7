// The choice of a token against llama.cpp's chain of filters, each by itself over a sorted list in f64; and bit for bit
// against the CPU backend's, whatever the backend under test.
#include <map>
#include <numeric>

#include "backend/cpu/cpu_backend.h"
#include "base/sampling.h"
#include "operation_fixture.h"
#include "support/settings.h"

namespace llama_tp {
namespace {

using Logits = std::vector<float>;

// Of one sequence.
struct Drawing {
  Logits logits;
  float uniform = 0;
  std::vector<int32_t> recent = {};
};

struct Drawn {
  std::vector<int32_t> ids;
  std::vector<double> chances;
  bool operator==(const Drawn&) const = default;
};

// The logits as they come from so many ranks; what pads the last one's is NaN and must not be seen.
Drawn sample_on(Device& device, const std::vector<Drawing>& drawings, const SamplingOptions& options,
                int64_t ranks = 1) {
  const int64_t n = std::ssize(drawings), vocabulary = std::ssize(drawings[0].logits),
                columns = (vocabulary + ranks - 1) / ranks;
  const auto of = [&](int64_t i) -> const Drawing& { return drawings[static_cast<size_t>(i)]; };
  const Owned logits({ranks, n, columns}, DType::f32, [&](int64_t at) {
    const int64_t id = at / (n * columns) * columns + at % columns;
    return id < vocabulary ? static_cast<double>(of(at / columns % n).logits[static_cast<size_t>(id)]) : NAN;
  });
  const Owned recent({n, penalty_window}, DType::i32, [&](int64_t at) {
    const std::vector<int32_t>& own = of(at / penalty_window).recent;
    return at % penalty_window < std::ssize(own) ? own[static_cast<size_t>(at % penalty_window)] : -1;
  });
  const Owned uniforms({n}, DType::f32, [&](int64_t i) { return static_cast<double>(of(i).uniform); });
  const Owned ids({n}, DType::i32), chances({n, 2}, DType::f64), before = logits;
  device->sample(logits, vocabulary, recent, uniforms, options, ids, chances);
  EXPECT_TRUE(logits.same_bytes(before));
  Drawn drawn;
  for (int64_t i = 0; i < n; i++) {
    drawn.ids.push_back(static_cast<int32_t>(ids[i]));
    if (drawn.ids.back() < 0) continue;
    drawn.chances.push_back(chances[2 * i]);
    drawn.chances.push_back(chances[2 * i + 1]);
  }
  device->sample(logits, vocabulary, recent, uniforms, options, ids, {});
  for (int64_t i = 0; i < n; i++) EXPECT_EQ(ids[i], drawn.ids[static_cast<size_t>(i)]) << "without chances";
  return drawn;
}

Logits some_logits(int64_t count, unsigned seed, double scale = 2) {
  Random random(seed);
  Logits logits;
  for (int64_t i = 0; i < count; i++) logits.push_back(static_cast<float>(scale * random.normal()));
  return logits;
}

// What remains of the tokens, in falling order, with their probabilities.
std::vector<std::pair<int32_t, double>> plain_probabilities(const Drawing& drawing, const SamplingOptions& options) {
  Logits logits = drawing.logits;
  for (size_t i = 0; i < logits.size(); i++)
    if (std::count(drawing.recent.begin(), drawing.recent.end(), static_cast<int32_t>(i)) > 0)
      logits[i] = logits[i] > 0 ? logits[i] / options.repeat_penalty : logits[i] * options.repeat_penalty;
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
  if (options.temperature == 0) return {{order.front(), 1.0}};
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
  std::vector<std::pair<int32_t, double>> result;
  for (size_t i = 0; i < p.size(); i++) result.emplace_back(order[i], p[i]);
  return result;
}

// A weight is off by 3e-7 of itself, a sum of them by no more, and the uniform number is exact.
constexpr double edge = 1e-6;

// The token whose stretch of the cumulative probabilities holds the uniform number.
void expect_chosen(const Drawing& drawing, const SamplingOptions& options, int32_t id) {
  double begin = 0;
  for (const auto& [candidate, p] : plain_probabilities(drawing, options)) {
    if (candidate == id) {
      EXPECT_GE(static_cast<double>(drawing.uniform), begin - edge) << id;
      EXPECT_LE(static_cast<double>(drawing.uniform), begin + p + edge) << id;
      return;
    }
    begin += p;
  }
  ADD_FAILURE() << id << " was filtered out";
}

std::vector<SamplingOptions> some_options() {
  constexpr SamplingOptions all{.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1};
  std::vector<SamplingOptions> list(12, all);
  list[1].temperature = 0.5f;
  list[2].temperature = 3;
  list[3].top_k = 4;
  list[4].top_k = 1000;
  list[5].top_p = 0.6f;
  list[6].top_p = 0;
  list[7].min_p = 0.1f;
  list[8].min_p = 1;
  list[9].repeat_penalty = 1.7f;
  list[10].repeat_penalty = 0.5f;
  list[11].temperature = 0;
  list.push_back({.repeat_penalty = 1.3f, .top_k = 20, .top_p = 0.9f, .min_p = 0.05f, .temperature = 0.8f});
  list.push_back({.repeat_penalty = 0.9f, .top_k = 300, .top_p = 0.95f, .min_p = 0.001f, .temperature = 2});
  return list;
}

TEST(Sample, IsTheChainOfItsFilters) {
  Device device;
  std::vector<int32_t> recent(50);
  for (size_t i = 0; i < recent.size(); i++) recent[i] = static_cast<int32_t>(i * i % 64);
  for (const int64_t vocabulary : {70, 600}) {
    const Logits logits = some_logits(vocabulary, 1);
    std::vector<Drawing> drawings;
    for (int i = 0; i < 16; i++) drawings.push_back({logits, static_cast<float>(i * 17 % 16) / 16 + 0.01f, recent});
    drawings.push_back({logits, 0, {}});
    drawings.push_back({logits, 1 - 0x1p-24f, {7}});
    for (const SamplingOptions& options : some_options()) {
      const Drawn drawn = sample_on(device, drawings, options);
      for (size_t i = 0; i < drawings.size(); i++) expect_chosen(drawings[i], options, drawn.ids[i]);
    }
  }
}

// Of a softmax over all, whatever the filters and the penalty do.
TEST(Sample, ChancesAreTheModelsOwn) {
  Device device;
  const Logits logits = some_logits(300, 3);
  for (const SamplingOptions& options : some_options()) {
    const Drawn drawn = sample_on(device, {{logits, 0.3f, {5, 6}}}, options);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    const double expected = static_cast<double>(logits[static_cast<size_t>(drawn.ids[0])]) - std::log(sum);
    EXPECT_NEAR(drawn.chances[0] - std::log(drawn.chances[1]), expected, edge);
  }
  // Of the first token, too, where another is likelier.
  const Drawn first = sample_on(device, {{{1, 2}, 0.99f, {}}}, {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1});
  EXPECT_EQ(first.ids[0], 0);
  EXPECT_NEAR(first.chances[0] - std::log(first.chances[1]), 1 - std::log(std::exp(1.0) + std::exp(2.0)), edge);
}

TEST(Sample, TheLikeliestIsTheFirstOfTheLargestAfterThePenalty) {
  Device device;
  const SamplingOptions greedy{.repeat_penalty = 2, .temperature = 0};
  const auto chosen = [&](const Logits& logits, const std::vector<int32_t>& recent) {
    return sample_on(device, {{logits, 0.5f, recent}}, greedy).ids[0];
  };
  EXPECT_EQ(chosen({1, 3, 3, -1}, {}), 1);
  EXPECT_EQ(chosen({1, 3, 2.9f, -1}, {1}), 2);
  EXPECT_EQ(chosen({-1, -1.5f}, {0}), 1);  // a negative logit falls, too
  EXPECT_EQ(chosen({2, 3.9f}, {1, 1, 1}), 0);
  EXPECT_EQ(chosen({2, 4.1f}, {1, 1, 1}), 1);  // three times is no more than once
  EXPECT_EQ(chosen({-0.0f, 0.0f}, {}), 0);
  EXPECT_EQ(chosen({-5}, {}), 0);
}

// Sums of equal weights are exact, and so is where a share of them ends: it is reached by the token that completes it,
// and exceeded by the next.
TEST(Sample, TokensThatAreAlikeHaveSharesToTheBit) {
  Device device;
  const auto chosen = [&](float uniform, float top_p) {
    const SamplingOptions options{.top_k = 0, .top_p = top_p, .min_p = 0, .temperature = 0.7f};
    return sample_on(device, {{Logits(4, -1.25f), uniform, {}}}, options).ids[0];
  };
  EXPECT_EQ(chosen(0.5f - 0x1p-24f, 1), 1);
  EXPECT_EQ(chosen(0.5f, 1), 2);
  EXPECT_EQ(chosen(1 - 0x1p-24f, 0.5f), 1);
  EXPECT_EQ(chosen(1 - 0x1p-24f, 0.5f + 0x1p-23f), 2);
  EXPECT_EQ(chosen(0.5f, 0.5f), 1);
}

// And of all the others none is disturbed.
TEST(Sample, ALogitThatIsNotFiniteIsNoChoice) {
  Device device;
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY})
    for (const size_t place : {0u, 7u, 49u})
      for (const int64_t ranks : {1, 3}) {
        std::vector<Drawing> drawings(3, {some_logits(50, 4), 0.5f, {}});
        drawings[1].logits[place] = bad;
        const std::vector<int32_t> ids = sample_on(device, drawings, {}, ranks).ids;
        EXPECT_EQ(ids[1], -1);
        EXPECT_GE(ids[0], 0);
        EXPECT_EQ(ids[2], ids[0]);
      }
  EXPECT_EQ(sample_on(device, {{{1, 3e38f}, 0.5f, {1}}}, {.repeat_penalty = 0.5f}).ids[0], -1);
}

class BesideTheCpu : public testing::Test {
 protected:
  void expect_same(const std::vector<Drawing>& drawings, const SamplingOptions& options, int64_t ranks) {
    const Drawn expected = sample_on(cpu_, drawings, options);
    EXPECT_EQ(sample_on(device_, drawings, options, ranks), expected)
        << drawings[0].logits.size() << " logits of " << ranks << " ranks, top-k " << options.top_k << ", top-p "
        << options.top_p << ", min-p " << options.min_p << ", temperature " << options.temperature;
  }

  Device device_, cpu_{make_cpu_backend({})};
};

// Logits all alike, in few steps, near each other, ordinary, and far apart.
std::vector<Logits> kinds_of_logits(int64_t vocabulary, unsigned seed) {
  std::vector<Logits> kinds{Logits(static_cast<size_t>(vocabulary), 2.5f), some_logits(vocabulary, seed),
                            some_logits(vocabulary, seed + 1, 1e-6), some_logits(vocabulary, seed + 2),
                            some_logits(vocabulary, seed + 3, 1e30)};
  for (float& logit : kinds[1]) logit = std::round(logit);
  return kinds;
}

// So many logits come from so many ranks and are filtered as some_options() says at this place.
struct Sampled {
  int vocabulary, ranks, options;
  Values values() const { return {vocabulary, ranks, options}; }
};

TEST_F(BesideTheCpu, EveryChoiceIsTheSame) {
  const std::vector<SamplingOptions> options = some_options();
  std::vector<Sampled> all;
  for (const int vocabulary : {1, 2, 37, 257, 3001})
    for (const int ranks : {1, 2, 4})
      for (int i = 0; i < std::ssize(options); i++)
        if (ranks <= vocabulary) all.push_back({vocabulary, ranks, i});
  unsigned seed = 10;
  for (const Sampled& sampled : settings_under_test(all)) {
    std::vector<Drawing> drawings;
    for (const Logits& logits : kinds_of_logits(sampled.vocabulary, seed += 10)) {
      Random random(seed);
      std::vector<int32_t> recent(penalty_window);
      for (int32_t& id : recent) id = static_cast<int32_t>(random.below(sampled.vocabulary));
      drawings.push_back({logits, static_cast<float>(random.below(1 << 24)) * 0x1p-24f, recent});
    }
    expect_same(drawings, options[static_cast<size_t>(sampled.options)], sampled.ranks);
  }
}

TEST_F(BesideTheCpu, ChoicesFromAWholeVocabularyAreTheSame) {
  std::vector<Drawing> drawings;
  for (const Logits& logits : kinds_of_logits(128256, 5)) drawings.push_back({logits, 0.7f, {1, 2, 128255}});
  expect_same(drawings, {}, 8);
  expect_same(drawings, {.top_k = 0, .top_p = 0.9f, .min_p = 0, .temperature = 1.5f}, 1);
}

// A choice among the likeliest is made from lists of parts of 8,192 logits, here of four, of which the last has fewer than
// are asked for; and flat enough that the least of them are drawn, too. Where a list would be too long, in the other way.
TEST_F(BesideTheCpu, ChoicesFromListsOfPartsAreTheSame) {
  constexpr int64_t vocabulary = 3 * 8192 + 100;
  for (const double scale : {1.0, 0.02}) {
    Logits logits = some_logits(vocabulary, 7, scale);
    std::vector<int32_t> recent{0, 8192, 3 * 8192};
    for (const int32_t id : recent) logits[static_cast<size_t>(id)] = 9;
    for (size_t i = 8192; i < 2 * 8192; i++) logits[i] += 2;  // nearly all of the likeliest
    std::vector<Drawing> drawings;
    for (int i = 0; i < 16; i++) drawings.push_back({logits, static_cast<float>(i) / 16, recent});
    for (const int64_t ranks : {1, 3})
      for (const int64_t top_k : {1, 40, 256, 257})
        expect_same(drawings, {.repeat_penalty = 1.4f, .top_k = top_k, .top_p = 1, .min_p = 0, .temperature = 4},
                    ranks);
  }
}

TEST(FeedChoices, AreTheNextTokensAndTheNewestOfThePenalty) {
  Device device;
  for (const int64_t n : {1, 3, 300}) {
    const Owned ids({n}, DType::i32, [](int64_t i) { return static_cast<double>(7 * i - 1); });
    const Owned next({n}, DType::i32),
        recent({n, penalty_window}, DType::i32, [](int64_t at) { return static_cast<double>(-at); });
    device->feed_choices(ids, next, recent);
    EXPECT_TRUE(next.same_bytes(ids));
    for (int64_t at = 0; at < recent.size(); at++) {
      const bool newest = at % penalty_window == penalty_window - 1;
      ASSERT_EQ(recent[at], newest ? ids[at / penalty_window] : static_cast<double>(-at));
    }
  }
}

// r is off by 2⁻²⁵ of ln 2 / 2, the polynomial by two roundings of its last sum of up to 1.42 and by its remainder: 2e-7 of
// eˣ; and a fraction of a unit is dropped.
TEST(Sample, AWeightIsAPowerOfE) {
  for (float x = 0; x > -30; x -= 0.00317f) {
    const double expected = std::ldexp(std::exp(static_cast<double>(x)), weight_bits);
    EXPECT_NEAR(static_cast<double>(weight_of(x, 0, 1)), expected, 3e-7 * expected + 1) << x;
  }
  EXPECT_EQ(weight_of(3, 3, 0.1f), uint64_t{1} << weight_bits);
  EXPECT_EQ(weight_of(-3e38f, 3e38f, 1e-3f), 0u);
}

}  // namespace
}  // namespace llama_tp
