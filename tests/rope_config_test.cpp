// The rotary part of config.json: both spellings, and every scaling against its formula in double.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "model/rope.h"
#include "support/error_of.h"
#include "support/written_config.h"

namespace llama_tp {
namespace {

using Json = OrderedJson;

constexpr double pi = std::numbers::pi, theta = 500;
constexpr int64_t half = 8;  // head_dim / 2

struct RopeCase {
  const char* name;
  Json scaling;
  std::function<double(double plain, int64_t length)> frequency;  // of θ^(−2i/16)
};

// θ' of the NTK-aware scaling by length over 64 positions, as a power of θ: f' = f · (θ/θ')^(i/8), where f = θ^(−i/8).
double dynamic(double plain, int64_t length) {
  const double stretch = 3 * std::max<double>(1, static_cast<double>(length) / 64) - 2;
  const double by_theta = -std::log(plain) / std::log(theta);  // i / 8
  return plain * std::pow(std::pow(stretch, 16.0 / 14.0), -by_theta);
}

// Llama 3.1's paper and code: long waves are stretched, short ones kept, between them a line in 1 / wavelength.
double llama3(double plain, int64_t) {
  const double rotations = 48 * plain / (2 * pi);  // in the original context
  const double kept = std::clamp((rotations - 1) / (4 - 1), 0.0, 1.0);
  return plain * (kept + (1 - kept) / 8);
}

// The index i of θ^(−i/8), as a real number.
double index_of(double plain) { return -8 * std::log(plain) / std::log(theta); }

// YaRN's paper, section 3.2: a pair that rotates 4 times in the original 48 positions is kept, one that rotates half a time
// is stretched by 8, and between their indices the share falls by a line.
double yarn(double plain, int64_t) {
  const double first = index_of(4 * 2 * pi / 48), last = index_of(0.5 * 2 * pi / 48);
  const double kept = std::clamp((last - index_of(plain)) / (last - first), 0.0, 1.0);
  return plain * (kept + (1 - kept) / 8);
}

// The same from floor(first) to ceil(last), with the paper's 32 and 1: the bounds come to lie at 0 and 3.
double yarn_by_default(double plain, int64_t) {
  const double kept = std::clamp(1 - index_of(plain) / 3, 0.0, 1.0);
  return plain * (kept + (1 - kept) / 8);
}

// LongRoPE: each pair has a divisor of its own, up to 64 positions and past them.
const Json short_factors{1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7}, long_factors{2, 3, 5, 7, 11, 13, 17, 19};
double longrope(double plain, int64_t length) {
  const auto i = static_cast<size_t>(std::lround(index_of(plain)));
  return plain / (length > 64 ? long_factors : short_factors)[i].get<double>();
}

std::vector<RopeCase> rope_cases() {
  return {
      {"default", Json::object(), [](double plain, int64_t) { return plain; }},
      {"linear", {{"factor", 4.0}}, [](double plain, int64_t) { return plain / 4; }},
      {"dynamic", {{"factor", 3}}, dynamic},
      {"llama3",
       {{"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4}, {"original_max_position_embeddings", 48}},
       llama3},
      {"yarn",
       {{"factor", 8.0},
        {"beta_fast", 4},
        {"beta_slow", 0.5},
        {"truncate", false},
        {"original_max_position_embeddings", 48}},
       yarn},
      {"yarn", {{"factor", 8.0}, {"original_max_position_embeddings", 48}}, yarn_by_default},
      {"longrope", {{"short_factor", short_factors}, {"long_factor", long_factors}}, longrope},
      {"su", {{"short_factor", short_factors}, {"long_factor", long_factors}}, longrope}};
}

// The same scaling in the three ways in which files write it.
std::vector<Json> spellings(const RopeCase& rope) {
  Json old = rope.scaling, new_words = rope.scaling, inside = rope.scaling;
  old["type"] = rope.name;
  new_words["rope_type"] = rope.name;
  inside["rope_type"] = rope.name;
  inside["rope_theta"] = theta;
  return {Json{{"rope_scaling", old}}, Json{{"rope_scaling", new_words}},
          Json{{"rope_parameters", inside}, {"rope_theta", nullptr}}};
}

TEST(Rope, EveryScalingIsItsFormulaInEverySpelling) {
  for (const RopeCase& rope : rope_cases())
    for (Json changes : spellings(rope))
      for (const int64_t length : {1, 64, 65, 1000}) {
        changes["max_position_embeddings"] = 64;
        const ModelConfig config = read_config(changes);
        std::vector<float> frequencies(half);
        rope_frequencies(config, length, frequencies);
        for (int64_t i = 0; i < half; i++) {
          const double expected =
              rope.frequency(std::pow(theta, -static_cast<double>(i) / static_cast<double>(half)), length);
          // A power in f32 with an exponent that is rounded: ln θ' · 2⁻²⁴ and three roundings; below 2⁻²⁰ for θ' < e¹².
          EXPECT_NEAR(static_cast<double>(frequencies[static_cast<size_t>(i)]), expected, std::ldexp(expected, -20))
              << changes.dump() << " " << i << " " << length;
        }
      }
}

// What the rotated elements are multiplied by: YaRN's equation 22, LongRoPE's square root, or what the file says.
TEST(Rope, LongContextsHaveAMagnitude) {
  const auto magnitude = [](const char* kind, const Json& more) {
    Json scaling{{"rope_type", kind}};
    if (std::string(kind) == "longrope")
      scaling.update({{"short_factor", short_factors}, {"long_factor", long_factors}});
    scaling.merge_patch(more);
    return read_config(Json{{"max_position_embeddings", 1024}, {"rope_scaling", scaling}}).rope.magnitude;
  };
  const Json original{{"original_max_position_embeddings", 64}};
  EXPECT_DOUBLE_EQ(magnitude("yarn", original), 1 + 0.1 * std::log(1024.0 / 64));
  EXPECT_DOUBLE_EQ(magnitude("yarn", Json{{"factor", 8}}), 1 + 0.1 * std::log(8.0));
  EXPECT_DOUBLE_EQ(magnitude("yarn", Json{{"factor", 8}, {"mscale", 0.5}, {"mscale_all_dim", 2}}),
                   (1 + 0.05 * std::log(8.0)) / (1 + 0.2 * std::log(8.0)));
  for (const auto& [one, other] : {std::pair<Json, Json>{0, 2}, {0.5, 0.0}, {0, 0}})
    EXPECT_DOUBLE_EQ(magnitude("yarn", Json{{"factor", 8}, {"mscale", one}, {"mscale_all_dim", other}}),
                     1 + 0.1 * std::log(8.0));
  EXPECT_DOUBLE_EQ(magnitude("longrope", original), std::sqrt(1 + std::log(16.0) / std::log(64.0)));
  EXPECT_DOUBLE_EQ(magnitude("longrope", Json::object()), 1);
  for (const char* kind : {"yarn", "longrope"})
    EXPECT_EQ(magnitude(kind, Json{{"factor", 8}, {"attention_factor", 1.25}}), 1.25);
  EXPECT_EQ(magnitude("linear", Json{{"factor", 8}}), 1);
}

// Phi-3's first files; a yarn that has no lists stays one.
TEST(Rope, YarnWithListsIsLongrope) {
  Json scaling{{"type", "yarn"}, {"factor", 8}, {"long_factor", long_factors}};
  EXPECT_EQ(read_config(Json{{"rope_scaling", scaling}}).rope.kind, RopeKind::yarn);
  scaling["short_factor"] = short_factors;
  const RopeConfig rope = read_config(Json{{"rope_scaling", scaling}}).rope;
  EXPECT_EQ(rope.kind, RopeKind::longrope);
  EXPECT_EQ(rope.short_factors.size(), short_factors.size());
}

// As transformers' standardize_rope_params reads them; its Phi3Config knows 4096 by itself.
TEST(Rope, TheOriginalContextBesideTheScalingCountsBeforeTheOneInIt) {
  const auto original = [](const char* type, const Json& beside, const Json& inside) {
    Json changes = scaling("llama3", {{"original_max_position_embeddings", inside}});
    if (std::string(type) == "phi3")
      changes = scaling("longrope", {{"short_factor", short_factors},
                                     {"long_factor", long_factors},
                                     {"original_max_position_embeddings", inside}});
    changes["model_type"] = type;
    changes["original_max_position_embeddings"] = beside;
    changes["max_position_embeddings"] = 131072;
    return read_config(changes).rope.original_max_positions;
  };
  for (const char* type : {"llama", "phi3"}) {
    EXPECT_EQ(original(type, 1000, 2000), 1000);
    EXPECT_EQ(original(type, 1000, nullptr), 1000);
  }
  EXPECT_EQ(original("llama", nullptr, 2000), 2000);
  EXPECT_EQ(original("llama", nullptr, nullptr), 131072);
  EXPECT_EQ(original("phi3", nullptr, 2000), 4096);
  EXPECT_EQ(original("phi3", nullptr, nullptr), 4096);
}

// transformers' longrope with a factor of at most 1.
TEST(Rope, AContextShorterThanTheOriginalHasTheShortFactors) {
  Json changes{{"rope_scaling", {{"type", "longrope"}, {"short_factor", short_factors}, {"long_factor", long_factors}}},
               {"max_position_embeddings", 48},
               {"original_max_position_embeddings", 64}};
  const ModelConfig config = read_config(changes);
  EXPECT_EQ(config.rope.magnitude, 1);
  std::vector<float> frequencies(half);
  rope_frequencies(config, 48, frequencies);
  EXPECT_FLOAT_EQ(frequencies[7], static_cast<float>(std::pow(theta, -7.0 / 8) / 1.7));
  changes["rope_scaling"] = {{"type", "yarn"}};
  EXPECT_EQ(read_config(changes).rope.factor, 0.75);
  EXPECT_EQ(read_config(changes).rope.magnitude, 1);
  changes["rope_scaling"]["factor"] = 0.75;
  EXPECT_TRUE(holds(error_of([&] { read_config(changes); }), "rope_scaling.factor is 0.75; it must be 1 or more"));
}

// Qwen's files keep max_position_embeddings when somebody adds YaRN, Vicuna's of 16K when they were trained with a
// factor; Llama's have the stretched context.
TEST(Rope, TheTrainedPositionsAreTheStretchedOnes) {
  const auto positions = [](int64_t most, const Json& values) {
    return trained_positions(read_config(Json{{"max_position_embeddings", most}, {"rope_scaling", values}}));
  };
  const Json qwen{{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
  EXPECT_EQ(positions(32768, qwen), 131072);
  EXPECT_EQ(positions(131072, qwen), 131072);
  EXPECT_EQ(positions(163840, qwen), 163840);
  EXPECT_EQ(positions(4096, {{"type", "linear"}, {"factor", 4.0}}), 16384);
  EXPECT_EQ(positions(100, {{"type", "linear"}, {"factor", 1.5}}), 150);
  EXPECT_GT(positions(100, {{"type", "linear"}, {"factor", 1e30}}), 1'000'000'000);
  EXPECT_EQ(positions(4096, nullptr), 4096);
  EXPECT_EQ(positions(4096, {{"type", "dynamic"}, {"factor", 4.0}}), 4096);
  Json llama = scaling("llama3", {{"original_max_position_embeddings", 8192}})["rope_scaling"];
  EXPECT_EQ(positions(131072, llama), 131072);
  EXPECT_EQ(
      positions(
          4096,
          {{"type", "longrope"}, {"short_factor", short_factors}, {"long_factor", long_factors}, {"factor", 4.0}}),
      4096);
}

TEST(Rope, ABetaOfZeroIsNotGiven) {
  const auto yarn = [](const Json& betas) {
    Json scaling{{"rope_type", "yarn"}, {"factor", 8}};
    scaling.merge_patch(betas);
    return read_config(Json{{"rope_scaling", scaling}}).rope;
  };
  for (const Json& betas : {Json::object(), Json{{"beta_fast", 0}, {"beta_slow", 0.0}}}) {
    EXPECT_EQ(yarn(betas).fast_rotations, 32) << betas.dump();
    EXPECT_EQ(yarn(betas).slow_rotations, 1) << betas.dump();
  }
  EXPECT_EQ(yarn(Json{{"beta_fast", 16}, {"beta_slow", 2}}).fast_rotations, 16);
  EXPECT_EQ(yarn(Json{{"beta_fast", 16}, {"beta_slow", 2}}).slow_rotations, 2);
}

TEST(Rope, NoScalingAndDefaultsAreSpelledInManyWays) {
  for (const Json& changes :
       {Json{{"rope_scaling", nullptr}}, Json{{"rope_parameters", {{"rope_theta", 500}}}},
        Json{{"rope_parameters", Json::object()}}, Json{{"rope_scaling", {{"type", "default"}}}}}) {
    EXPECT_EQ(read_config(changes).rope.kind, RopeKind::standard);
    EXPECT_EQ(read_config(changes).rope.theta, 500);
  }
}

TEST(Rope, WhatNothingReadsIsNamed) {
  using Names = std::vector<std::string>;
  for (const RopeCase& rope : rope_cases())
    for (const Json& changes : spellings(rope)) EXPECT_EQ(read_config(changes).rope.unread, Names{}) << changes.dump();
  Json values = scaling("llama3", {{"low_freq_facter", 2}, {"beta_fast", 32}, {"attn_factor", nullptr}});
  const ModelConfig config = read_config(values);
  EXPECT_EQ(config.rope.unread, (Names{"rope_scaling.low_freq_facter", "rope_scaling.beta_fast"}));
  ASSERT_EQ(left_out_of(config).size(), 1u);
  EXPECT_TRUE(holds(left_out_of(config)[0],
                    "config.json: not understood and left out: rope_scaling.low_freq_facter, "
                    "rope_scaling.beta_fast"));
  values = Json{{"rope_parameters", {{"rope_theta", 500}, {"partial_rotary_factor", 1}, {"factor", 2}}}};
  EXPECT_EQ(read_config(values).rope.unread, Names{"rope_parameters.factor"});
  EXPECT_EQ(left_out_of(read_config()), Names{});
}

// As transformers reads a config.json that it wrote and somebody then scaled the old way, the base frequency included.
TEST(Rope, OfBothSpellingsTheOlderCounts) {
  const Json newer{{"rope_type", "default"}, {"rope_theta", 777}}, older{{"rope_type", "linear"}, {"factor", 4}};
  const RopeConfig rope = read_config(Json{{"rope_parameters", newer}, {"rope_scaling", older}}).rope;
  EXPECT_EQ(rope.kind, RopeKind::linear);
  EXPECT_EQ(rope.factor, 4);
  EXPECT_EQ(rope.theta, 500);
  EXPECT_EQ(read_config(Json{{"rope_parameters", newer}, {"rope_scaling", Json::object()}}).rope.theta, 777);
}

// How much of a head rotates is of them as well; the other object adds nothing.
TEST(Rope, TheShareThatRotatesIsOfTheValuesThatCount) {
  const auto rotating = [](const char* type, const Json& changes) {
    Json all{{"model_type", type}};
    all.merge_patch(changes);
    return read_config(all).rotary_dim;
  };
  const Json newer{{"rope_type", "default"}, {"partial_rotary_factor", 0.25}};
  for (const char* kind : {"default", "linear"}) {
    const Json bare{{"rope_type", kind}, {"factor", 2}};
    Json older = bare;
    older["partial_rotary_factor"] = 0.75;
    EXPECT_EQ(rotating("nemotron", Json{{"rope_scaling", older}}), 12);
    EXPECT_EQ(rotating("nemotron", Json{{"rope_scaling", older}, {"rope_parameters", newer}}), 12);
    EXPECT_EQ(rotating("nemotron", Json{{"rope_scaling", bare}, {"rope_parameters", newer}}), 8);
    EXPECT_EQ(rotating("phi3", Json{{"rope_scaling", bare}, {"rope_parameters", newer}}), 16);
    EXPECT_EQ(
        rotating("phi3", Json{{"rope_scaling", bare}, {"rope_parameters", newer}, {"partial_rotary_factor", 0.5}}), 8);
  }
  EXPECT_EQ(rotating("nemotron", Json{{"rope_parameters", newer}}), 4);
  const Json lists{{"short_factor", Json(std::vector<int>(4, 1))}, {"long_factor", Json(std::vector<int>(4, 2))}};
  Json longrope = lists;
  longrope.update({{"type", "longrope"}, {"partial_rotary_factor", 0.5}});
  EXPECT_EQ(rotating("phi3", Json{{"rope_scaling", longrope}}), 8);
  EXPECT_TRUE(holds(error_of([&] {
                      rotating("phi3", Json{{"rope_scaling", {{"partial_rotary_factor", "half"}}}});
                    }),
                    "rope_scaling.partial_rotary_factor is \"half\""));
}

}  // namespace
}  // namespace llama_tp
