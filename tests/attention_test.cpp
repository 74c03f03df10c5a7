// Attention against plain loops in double: every ratio of heads, ragged sequences, windows, caches.
#include "operation_fixture.h"
#include "support/error_of.h"
#include "support/settings.h"

namespace llama_tp {
namespace {

struct Range4 {
  int32_t first_query, queries, first_key, keys;
};

struct Case {
  const char* name;
  int64_t heads, kv_heads, head_dim;
  int64_t tokens, cache;
  std::vector<Range4> sequences;
  int64_t window = 0;
};

// Sequences one after another, keys and queries alike, as in training.
Case training(const char* name, int64_t heads, int64_t kv_heads, int64_t head_dim, const std::vector<int32_t>& lengths,
              int64_t window = 0) {
  Case made{name, heads, kv_heads, head_dim, 0, 0, {}, window};
  for (const int32_t length : lengths) {
    const auto first = static_cast<int32_t>(made.tokens);
    made.sequences.push_back({first, length, first, length});
    made.tokens += length;
  }
  made.cache = made.tokens;
  return made;
}

// So many sequences, now and then one of more than a tile.
std::vector<int32_t> many(int count) {
  std::vector<int32_t> lengths;
  for (int i = 0; i < count; i++) lengths.push_back(i % 16 == 9 ? 66 + 10 * i : 1 + i % 5);
  return lengths;
}

const std::vector<Case> training_cases{
    training("one token", 2, 2, 64, {1}),
    training("one sequence", 2, 2, 64, {130}),
    training("ragged", 4, 4, 64, {1, 70, 3, 129, 1, 64, 2}),
    training("grouped", 8, 2, 32, {65, 31}),
    training("one kv head", 6, 1, 128, {77, 5}),
    training("one kv head of twenty", 20, 1, 16, {150}),
    training("head of 80", 3, 3, 80, {100}),
    training("head of 96", 2, 1, 96, {70}),
    training("small odd head", 3, 1, 5, {67, 2}),
    training("odd head of two elements a lane", 2, 1, 45, {35, 2}),
    training("head of four elements a lane, not full", 2, 1, 70, {35}),
    training("head of eight elements a lane", 2, 1, 136, {20}),
    training("head of eight elements a lane, not full", 2, 2, 150, {17, 3}),
    training("wide heads of few tokens", 2, 1, 128, {3, 5}),
    training("even head narrower than a vector", 2, 1, 6, {40}),
    training("window of one", 2, 1, 16, {70}, 1),
    training("window of two over tiles", 2, 1, 16, {200}, 2),
    training("window within a tile", 4, 2, 64, {200, 10}, 5),
    training("window over tiles", 2, 2, 32, {300}, 100),
    training("window longer than the sequences", 2, 2, 32, {30, 90}, 1000),
    training("wide heads over tiles", 2, 1, 128, {17, 140}),
    training("odd lengths, a group of three", 3, 1, 64, {1, 63, 65, 127, 129}),
    training("tiles that are full", 2, 2, 64, {128, 64}),
    training("many tiles", 1, 1, 64, {451}),
    training("many tiles of a group, wide heads", 2, 1, 128, {1, 259}),
    training("window over tiles, a group", 2, 1, 64, {330, 70}, 129),
    training("window within a tile, wide heads", 2, 2, 128, {200, 1}, 33),
    training("short ones beside a long one", 2, 1, 64, {3, 300, 5, 1, 70, 2}),
    training("more sequences than a warp has lanes", 2, 1, 64, many(37)),
    training("more than these, wide heads", 1, 1, 128, many(70)),
    training("more than the square of them", 1, 1, 16, std::vector<int32_t>(1030, 1)),
};

// Rows of the cache that belong to no sequence hold NaN: reading one spoils the result.
const std::vector<Case> cache_cases{
    {"decoding", 4, 2, 64, 1, 40, {{0, 1, 3, 20}}},
    {"decoding far along, in chunks", 8, 2, 64, 1, 1000, {{0, 1, 0, 999}}},
    {"decoding, one kv head each", 3, 3, 128, 1, 700, {{0, 1, 100, 513}}},
    {"decoding with a window over chunks", 4, 1, 32, 1, 1024, {{0, 1, 0, 900}}, 300},
    {"decoding with a window in the last chunk", 2, 1, 32, 1, 1024, {{0, 1, 0, 900}}, 7},
    {"decoding in chunks of 32 keys", 32, 8, 16, 1, 1300, {{0, 1, 10, 1290}}},
    {"decoding in the longest chunks", 64, 8, 5, 2, 2400, {{0, 1, 0, 1100}, {1, 1, 1100, 1030}}},
    {"decoding with a window over chunks, wide heads", 4, 1, 128, 1, 1024, {{0, 1, 0, 900}}, 300},
    {"two decoding, twenty heads of one kv head", 20, 1, 64, 2, 700, {{0, 1, 0, 401}, {1, 1, 401, 290}}},
    {"decoding heads of 96", 4, 2, 96, 1, 600, {{0, 1, 0, 555}}},
    {"decoding odd heads", 2, 1, 7, 1, 600, {{0, 1, 0, 600}}},
    {"decoding odd heads of two elements a lane", 2, 1, 45, 1, 600, {{0, 1, 0, 600}}},
    {"decoding heads of two elements a lane", 2, 1, 46, 1, 300, {{0, 1, 7, 290}}},
    {"decoding heads of four elements a lane", 2, 1, 68, 1, 300, {{0, 1, 7, 290}}},
    {"decoding heads of four elements a lane, not full", 2, 1, 70, 1, 600, {{0, 1, 5, 590}}},
    {"decoding heads of eight elements a lane", 2, 1, 136, 1, 600, {{0, 1, 0, 555}}},
    {"decoding heads of eight elements a lane, not full", 2, 1, 150, 1, 600, {{0, 1, 10, 590}}},
    {"three sequences decoding", 4, 4, 32, 3, 900, {{0, 1, 0, 300}, {1, 1, 300, 1}, {2, 1, 301, 599}}},
    {"a few tokens after many", 4, 2, 64, 9, 800, {{0, 9, 11, 700}}},
    {"a prompt after a cache", 4, 2, 64, 100, 400, {{0, 100, 7, 333}}},
    {"a prompt after a cache with a window", 4, 2, 64, 100, 400, {{0, 100, 7, 333}}, 50},
    {"some tokens after many tiles", 2, 1, 64, 20, 800, {{0, 20, 11, 700}}},
    {"a prompt after many tiles, wide heads", 2, 1, 128, 131, 700, {{0, 131, 7, 400}}},
    {"a window over tiles, wide heads", 2, 1, 128, 40, 700, {{0, 40, 3, 640}}, 300},
    {"prompts of several sequences", 2, 1, 16, 120, 500, {{0, 50, 100, 80}, {50, 1, 0, 100}, {51, 69, 200, 69}}},
};

struct Inputs {
  Inputs(const Case& c, DType dtype)
      : q({c.heads, c.tokens, c.head_dim}, dtype),
        k({c.kv_heads, c.cache, c.head_dim}, dtype),
        v({c.kv_heads, c.cache, c.head_dim}, dtype),
        dout({c.tokens, c.heads * c.head_dim}, dtype),
        ranges({static_cast<int64_t>(c.sequences.size()) + 2, 4}, DType::i32),
        options{1.0f / std::sqrt(static_cast<float>(c.head_dim)), c.window} {
    Random random(11);
    const auto fill = [&](Owned& to) {
      for (int64_t i = 0; i < to.size(); i++) to.set(i, random.normal());
    };
    fill(q), fill(k), fill(v), fill(dout);
    int64_t at = 0;
    std::vector<bool> used(static_cast<size_t>(c.cache), false);
    for (const Range4& s : c.sequences) {
      for (const int32_t value : {s.first_query, s.queries, s.first_key, s.keys}) ranges.set(at++, value);
      for (int32_t key = 0; key < s.keys; key++) used[static_cast<size_t>(s.first_key + key)] = true;
      sequences.longest_query = std::max<int64_t>(sequences.longest_query, s.queries);
      sequences.longest_key = std::max<int64_t>(sequences.longest_key, s.keys);
    }
    for (int64_t i = 0; i < k.size(); i++)
      if (!used[static_cast<size_t>(i / c.head_dim % c.cache)]) k.set(i, NAN), v.set(i, NAN);
    for (int empty = 0; empty < 2; empty++)
      for (const int64_t value : {c.tokens, int64_t{0}, c.cache, int64_t{0}})
        ranges.set(at++, static_cast<double>(value));
    sequences.ranges = ranges;
    sequences.count = static_cast<int64_t>(c.sequences.size());
  }
  Owned q, k, v, dout, ranges;
  Sequences sequences;
  AttentionOptions options;
};

// A row's scores and what they may be off by: head_dim roundings of the products' total, then one more of the score and
// some in forming the exponent.
struct Row {
  Row(const Case& c, const Inputs& in, const Range4& s, int64_t head, int64_t query) {
    const int64_t kv_head = head * c.kv_heads / c.heads;
    last = s.keys - s.queries + query;
    first = c.window > 0 ? std::max<int64_t>(last - c.window + 1, 0) : 0;
    for (int64_t j = first; j <= last; j++) {
      double dot = 0, terms = 0;
      for (int64_t d = 0; d < c.head_dim; d++) {
        const double product = in.q[(head * c.tokens + s.first_query + query) * c.head_dim + d] *
                               in.k[(kv_head * c.cache + s.first_key + j) * c.head_dim + d];
        dot += product, terms += std::fabs(product);
      }
      scores.push_back(dot * static_cast<double>(in.options.scale));
      error = std::max(error,
                       static_cast<double>(c.head_dim + 4) * 0x1p-24 * terms * static_cast<double>(in.options.scale));
      largest = std::max(largest, scores.back());
    }
    for (const double score : scores) sum += std::exp(score - largest);
  }
  int64_t first, last;
  std::vector<double> scores;
  double largest = -INFINITY, sum = 0, error = 0;
};

void each_row(const Case& c, const std::function<void(const Range4&, int64_t, int64_t)>& body) {
  for (const Range4& s : c.sequences)
    for (int64_t head = 0; head < c.heads; head++)
      for (int64_t query = 0; query < s.queries; query++) body(s, head, query);
}

// Relative error of a probability: twice the scores' (once above, once below the line), that of the exponential and its
// sum, and one rounding to the type in which it is multiplied.
double probability_error(const Row& row, DType dtype) {
  return 2 * row.error + static_cast<double>(row.scores.size() + 8) * 0x1p-24 + 1e-6 + rounding(dtype);
}

TEST(Attention, ForwardIsTheSoftmaxOfScoresTimesValues) {
  Device device(2);
  std::vector<Case> cases = training_cases;
  cases.insert(cases.end(), cache_cases.begin(), cache_cases.end());
  for (const DType dtype : activation_types)
    for (const Case& c : cases) {
      SCOPED_TRACE(std::string(c.name) + " in " + std::string(name_of(dtype)));
      const Inputs in(c, dtype);
      const Owned out({c.tokens, c.heads * c.head_dim}, dtype), lse({c.heads, c.tokens}, DType::f32), again = out;
      device->attention_forward(in.q, in.k, in.v, in.sequences, in.options, out, lse);
      each_row(c, [&](const Range4& s, int64_t head, int64_t query) {
        const Row row(c, in, s, head, query);
        const int64_t token = s.first_query + query, kv_head = head * c.kv_heads / c.heads;
        const double expected = row.largest + std::log(row.sum);
        ASSERT_NEAR(lse[head * c.tokens + token], expected, row.error + 4e-7 + 0x1p-22 * std::fabs(expected));
        for (int64_t d = 0; d < c.head_dim; d++) {
          double sum = 0, terms = 0;
          for (int64_t j = row.first; j <= row.last; j++) {
            const double p = std::exp(row.scores[static_cast<size_t>(j - row.first)] - row.largest) / row.sum;
            const double term = p * in.v[(kv_head * c.cache + s.first_key + j) * c.head_dim + d];
            sum += term, terms += std::fabs(term);
          }
          ASSERT_NEAR(out[(token * c.heads + head) * c.head_dim + d], sum,
                      rounding(dtype) * std::fabs(sum) + probability_error(row, dtype) * terms);
        }
      });
      device->attention_forward(in.q, in.k, in.v, in.sequences, in.options, again, {});
      EXPECT_TRUE(again.same_bytes(out)) << "without lse";
    }
}

// Sums of products with their sums of magnitudes and of errors, for every element of a gradient.
struct Sums {
  explicit Sums(int64_t n) : value(static_cast<size_t>(n)), error(value) {}
  void add(int64_t at, double factor, double factor_error, double other) {
    value[static_cast<size_t>(at)] += factor * other;
    error[static_cast<size_t>(at)] += (factor_error + 1e-5 * std::fabs(factor)) * std::fabs(other);
  }
  void compare(const Owned& got, DType dtype) const {
    for (int64_t i = 0; i < got.size(); i++) {
      const auto at = static_cast<size_t>(i);
      ASSERT_NEAR(got[i], value[at], error[at] + rounding(dtype) * std::fabs(value[at]) + 0x1p-126) << "element " << i;
    }
  }
  std::vector<double> value, error;
};

// Roundings of n additions in f32 go either way: together they lose about √n · 2⁻²⁵ of the terms, 1.6e-6 for the 3,000 of
// the longest sum, and Sums allows for 1e-5. Probabilities and their gradients are also rounded to the type of their
// products.
TEST(Attention, BackwardIsTheGradientOfForward) {
  Device device(2);
  for (const DType dtype : activation_types)
    for (const Case& c : training_cases) {
      SCOPED_TRACE(std::string(c.name) + " in " + std::string(name_of(dtype)));
      const Inputs in(c, dtype);
      const Owned out({c.tokens, c.heads * c.head_dim}, dtype), lse({c.heads, c.tokens}, DType::f32);
      device->attention_forward(in.q, in.k, in.v, in.sequences, in.options, out, lse);
      const Owned dq = in.q, dk = in.k, dv = in.v;
      device->attention_backward(in.dout, in.q, in.k, in.v, out, lse, in.sequences, in.options, dq, dk, dv);

      Sums sum_q(dq.size()), sum_k(dk.size()), sum_v(dv.size());
      const double scale = static_cast<double>(in.options.scale);
      each_row(c, [&](const Range4& s, int64_t head, int64_t query) {
        const Row row(c, in, s, head, query);
        const int64_t token = s.first_query + query, kv_head = head * c.kv_heads / c.heads;
        const auto out_at = [&](int64_t d) { return (token * c.heads + head) * c.head_dim + d; };
        double delta = 0, delta_terms = 0;
        for (int64_t d = 0; d < c.head_dim; d++)
          delta += in.dout[out_at(d)] * out[out_at(d)], delta_terms += std::fabs(in.dout[out_at(d)] * out[out_at(d)]);
        for (int64_t j = row.first; j <= row.last; j++) {
          const auto q_at = [&](int64_t d) { return (head * c.tokens + token) * c.head_dim + d; };
          const auto k_at = [&](int64_t d) { return (kv_head * c.cache + s.first_key + j) * c.head_dim + d; };
          double dp = 0, dp_terms = 0;
          for (int64_t d = 0; d < c.head_dim; d++)
            dp += in.dout[out_at(d)] * in.v[k_at(d)], dp_terms += std::fabs(in.dout[out_at(d)] * in.v[k_at(d)]);
          const double p = std::exp(row.scores[static_cast<size_t>(j - row.first)] - row.largest) / row.sum;
          const double p_error = p * probability_error(row, dtype), ds = p * (dp - delta);
          const double ds_error = p_error * std::fabs(dp - delta) + rounding(dtype) * std::fabs(ds) +
                                  p * static_cast<double>(c.head_dim + 2) * 0x1p-24 * (dp_terms + delta_terms);
          for (int64_t d = 0; d < c.head_dim; d++) {
            sum_v.add(k_at(d), p, p_error, in.dout[out_at(d)]);
            sum_q.add(q_at(d), scale * ds, scale * ds_error, in.k[k_at(d)]);
            sum_k.add(k_at(d), scale * ds, scale * ds_error, in.q[q_at(d)]);
          }
        }
      });
      sum_q.compare(dq, dtype);
      sum_k.compare(dk, dtype);
      sum_v.compare(dv, dtype);
    }
}

// Tiles may reach into the next sequence. What is NaN there stays there.
TEST(Attention, BackwardKeepsSequencesApart) {
  Device device(2);
  for (const DType dtype : activation_types)
    for (const int64_t head_dim : {32, 64, 128}) {
      const Case c = training("apart", 2, 1, head_dim, {150, 30});
      Inputs in(c, dtype);
      const Owned out({c.tokens, c.heads * c.head_dim}, dtype), lse({c.heads, c.tokens}, DType::f32);
      const auto gradients = [&] {
        std::vector<Owned> made{in.q, in.k, in.v};
        device->attention_forward(in.q, in.k, in.v, in.sequences, in.options, out, lse);
        device->attention_backward(in.dout, in.q, in.k, in.v, out, lse, in.sequences, in.options, made[0], made[1],
                                   made[2]);
        return made;
      };
      const std::vector<Owned> whole = gradients();
      for (int64_t token = 150; token < c.tokens; token++)
        for (int64_t d = 0; d < head_dim; d++) {
          for (int64_t head = 0; head < c.heads; head++) in.q.set((head * c.tokens + token) * head_dim + d, NAN);
          for (int64_t head = 0; head < c.heads; head++) in.dout.set((token * c.heads + head) * head_dim + d, NAN);
          for (Owned* tensor : {&in.k, &in.v})
            for (int64_t head = 0; head < c.kv_heads; head++)
              tensor->set((head * c.tokens + token) * head_dim + d, NAN);
        }
      const std::vector<Owned> spoiled = gradients();
      for (size_t which = 0; which < 3; which++)
        for (int64_t i = 0; i < whole[which].size(); i++) {
          const int64_t token = i / head_dim % c.tokens;
          if (token < 150)
            ASSERT_EQ(spoiled[which][i], whole[which][i]) << "gradient " << which << ", element " << i;
          else
            ASSERT_TRUE(std::isnan(spoiled[which][i])) << "gradient " << which << ", element " << i;
        }
    }
}

// Tasks and their order depend on shapes alone.
TEST(Attention, ResultsDoNotDependOnTheNumberOfThreadsAndAreRepeatedBitForBit) {
  const Case ragged = test_all() ? training("ragged", 6, 2, 64, {300, 1, 140, 65})
                                 : training("ragged", 3, 1, 64, {200, 1, 140, 65}),
             decoding = cache_cases[1];
  const Case wide = training("wide heads, a window", 2, 1, 128, {150, 33}, 100);
  for (const DType dtype : activation_types)
    for (const Case& c : {ragged, wide, decoding}) {
      const Inputs in(c, dtype);
      std::vector<Owned> results;
      for (const int threads : thread_counts_under_test()) {
        Device device(threads);
        const Owned out({c.tokens, c.heads * c.head_dim}, dtype), lse({c.heads, c.tokens}, DType::f32);
        const Owned dq = in.q, dk = in.k, dv = in.v;
        device->attention_forward(in.q, in.k, in.v, in.sequences, in.options, out, lse);
        if (c.cache == c.tokens)
          device->attention_backward(in.dout, in.q, in.k, in.v, out, lse, in.sequences, in.options, dq, dk, dv);
        for (const Owned* tensor : {&out, &lse, &dq, &dk, &dv}) results.push_back(*tensor);
      }
      for (size_t i = 5; i < results.size(); i++)
        EXPECT_TRUE(results[i].same_bytes(results[i % 5])) << "result " << i % 5 << " of run " << i / 5;
    }
}

// As softmax has it: shifting all scores changes nothing, and e^(±1000) neither overflows nor vanishes.
TEST(Attention, LargeScoresAreAsGoodAsSmallOnes) {
  Device device(2);
  for (const double size : {1e3, -1e3}) {
    const Owned q({1, 1, 16}, DType::f32, [&](int64_t i) { return i == 0 ? size : 0; });
    const Owned k({1, 3, 16}, DType::f32, [](int64_t i) { return i % 16 == 0 ? 1.0 : 0; });
    const Owned v({1, 3, 16}, DType::f32, [](int64_t i) { return static_cast<double>(i / 16); });
    const Owned ranges({1, 4}, DType::i32, [](int64_t i) { return i == 1 ? 1.0 : i == 3 ? 3.0 : 0; });
    const Owned out({1, 16}, DType::f32), lse({1, 1}, DType::f32);
    device->attention_forward(q, k, v, {ranges, 1, 1, 3, 3}, {1.0f, 0}, out, lse);
    for (int64_t d = 0; d < 16; d++) EXPECT_NEAR(out[d], 1, 1e-6);
    EXPECT_NEAR(lse[0], size + std::log(3.0), 1e-3 * 0.13);
  }
}

// Wherever it is among the lanes, tiles and chunks that look for the largest: beside any smaller one its exponential
// would be infinite.
TEST(Attention, AScoreFarAboveAllOthersIsAllThatCounts) {
  Device device(2);
  constexpr double size = 32;  // of q and k, so scores of ±1024
  struct Sizes {
    int64_t head_dim, queries, keys;
  };
  for (const DType dtype : activation_types)
    for (const auto& [head_dim, queries, keys] :
         {Sizes{64, 1, 300}, {48, 1, 300}, {64, 20, 180}, {32, 20, 180}, {256, 9, 50}})
      for (const int64_t largest : {0, 1, 2, 3, 5, 9, 16, 30, 70, 101, 150, 299}) {
        if (largest > keys - queries) continue;  // each query sees it
        SCOPED_TRACE(text(name_of(dtype), ", heads of ", head_dim, ", ", queries, " queries, key ", largest));
        const auto first_of_each = [&](double value) {
          return [=](int64_t i) { return i % head_dim == 0 ? value : 0; };
        };
        const Owned q({2, queries, head_dim}, dtype, first_of_each(size));
        Owned k({1, keys, head_dim}, dtype, first_of_each(-size));
        k.set(largest * head_dim, size);
        const Owned v({1, keys, head_dim}, dtype, [&](int64_t i) { return static_cast<double>(i / head_dim % 100); });
        const std::array<int64_t, 4> range{0, queries, 0, keys};
        const Owned ranges({1, 4}, DType::i32,
                           [&](int64_t i) { return static_cast<double>(range[static_cast<size_t>(i)]); });
        const Owned out({queries, 2 * head_dim}, dtype), lse({2, queries}, DType::f32);
        device->attention_forward(q, k, v, {ranges, 1, queries, keys}, {1.0f, 0}, out, lse);
        for (int64_t i = 0; i < out.size(); i++) ASSERT_EQ(out[i], largest % 100) << i;
        for (int64_t i = 0; i < lse.size(); i++) ASSERT_NEAR(lse[i], size * size, 1e-3) << i;
      }
}

// The largest score is found before scores are scaled. So by each way in which attention runs.
TEST(Attention, AScaleThatIsNotPositiveIsRefused) {
  Device device(2);
  for (const DType dtype : activation_types)
    for (const int64_t head_dim : {48, 64})
      for (const int64_t queries : {1, 20})
        for (const float scale : {0.0f, -1.0f}) {
          const Owned q({1, queries, head_dim}, dtype), out({queries, head_dim}, dtype);
          const Owned ranges({1, 4}, DType::i32, [&](int64_t i) { return static_cast<double>(i % 2 * queries); });
          EXPECT_TRUE(holds(error_of([&] {
                              device->attention_forward(q, q, q, {ranges, 1, queries, queries}, {scale, 0}, out, {});
                            }),
                            text("attention: a scale of ", scale, "; it must be positive")));
        }
}

// So that a run that diverges is noticed rather than averaged away.
TEST(Attention, ANotANumberInAVisibleKeyReachesTheOutput) {
  Device device(2);
  const Case c = training("nan", 2, 2, 32, {100});
  for (const DType dtype : activation_types) {
    Inputs in(c, dtype);
    in.k.set(40 * 32 + 3, NAN);
    const Owned out({c.tokens, c.heads * c.head_dim}, dtype);
    device->attention_forward(in.q, in.k, in.v, in.sequences, in.options, out, {});
    for (int64_t token = 0; token < 100; token++) EXPECT_EQ(std::isnan(out[token * 64]), token >= 40) << token;
  }
}

// What is reserved for the longest past is enough for each shorter one.
TEST(Attention, ItsWorkspaceDoesNotShrinkWithMoreKeys) {
  Device device(2);
  for (const int64_t heads : {8, 205, 256})
    for (const int64_t tokens : {1, 8})
      for (const DType dtype : activation_types) {
        const Tensor q{nullptr, dtype, {heads, tokens, 64}}, k{nullptr, dtype, {heads, 2100, 64}};
        int64_t before = 0;
        for (int64_t keys = 1; keys <= 2100; keys++) {
          const int64_t bytes = device->attention_forward_workspace(q, k, {{}, 1, tokens, keys});
          ASSERT_GE(bytes, before) << heads << " heads, " << tokens << " tokens, " << keys << " keys";
          before = bytes;
        }
      }
}

}  // namespace
}  // namespace llama_tp
