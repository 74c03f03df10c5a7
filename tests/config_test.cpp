// config.json: both spellings, every rope scaling against its formula in double, and every kind of bad value against
// its message.
#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numbers>

#include "io/files.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

using Json = nlohmann::ordered_json;

// The smallest Llama, with changes: a null removes a key.
Json config_json(const Json& changes = Json::object()) {
  Json json{{"model_type", "llama"},    {"hidden_size", 96},       {"num_hidden_layers", 2}, {"num_attention_heads", 6},
            {"num_key_value_heads", 2}, {"intermediate_size", 40}, {"vocab_size", 103},      {"rope_theta", 500.0}};
  json.merge_patch(changes);
  return json;
}

ModelConfig read(const std::string& text) {
  const ScratchFolder scratch;
  write_text(scratch / "config.json", text);
  return read_model_config(scratch / "config.json");
}
ModelConfig read(const Json& changes = Json::object()) { return read(config_json(changes).dump()); }

TEST(Config, WhatIsNotSaidIsAsInTransformers) {
  const ModelConfig config = read(Json{{"num_key_value_heads", nullptr}, {"rope_theta", nullptr}});
  EXPECT_EQ(config.family->name, "llama");
  EXPECT_EQ(config.kv_heads, 6);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.rotary_dim, 16);
  EXPECT_EQ(config.max_positions, 2048);
  EXPECT_EQ(config.norm.kind, NormKind::rms);
  EXPECT_EQ(config.norm.epsilon, 1e-6f);
  EXPECT_EQ(config.activation.kind, Activation::silu);
  EXPECT_TRUE(config.activation.gated);
  EXPECT_FALSE(config.qkv_bias || config.o_bias || config.mlp_bias || config.tied || config.qk_norm ||
               config.norm_bias);
  EXPECT_EQ(config.rope.kind, RopeKind::standard);
  EXPECT_EQ(config.rope.theta, 10000);
  EXPECT_EQ(config.attention_scale, 0.25f);
  EXPECT_EQ(config.initializer_range, 0.02);
  EXPECT_EQ(config.dtype, DType::f32);
  EXPECT_FALSE(config.bos_id || config.pad_id);
  EXPECT_TRUE(config.eos_ids.empty() && config.plan_overrides.empty());
}

TEST(Config, EveryKeyIsHeard) {
  const ModelConfig config =
      read(Json{{"head_dim", 32},
                {"attention_bias", true},
                {"mlp_bias", true},
                {"tie_word_embeddings", true},
                {"rms_norm_eps", 1e-5},
                {"hidden_act", "relu2"},
                {"torch_dtype", "bfloat16"},
                {"bos_token_id", 1},
                {"eos_token_id", {2, 3}},
                {"pad_token_id", 0},
                {"initializer_range", 0.1},
                {"max_position_embeddings", 77},
                {"tp_plan", {{"layers.*.mlp.up_proj", "column"}, {"layers.1.mlp.up_proj", "replicated"}, {"a", "b"}}}});
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.q_width(), 192);
  EXPECT_EQ(config.kv_width(), 64);
  EXPECT_TRUE(config.qkv_bias && config.o_bias && config.mlp_bias && config.tied);
  EXPECT_EQ(config.norm.epsilon, 1e-5f);
  EXPECT_EQ(config.activation.kind, Activation::relu_squared);
  EXPECT_EQ(config.dtype, DType::bf16);
  EXPECT_EQ(config.bos_id, 1);
  EXPECT_EQ(config.pad_id, 0);
  EXPECT_EQ(config.eos_ids, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(config.initializer_range, 0.1);
  EXPECT_EQ(config.max_positions, 77);
  ASSERT_EQ(config.plan_overrides.size(), 3u);  // in the order of the file
  EXPECT_EQ(config.plan_overrides[1], std::make_pair(std::string("layers.1.mlp.up_proj"), std::string("replicated")));
  EXPECT_EQ(config.plan_overrides[2].first, "a");
  EXPECT_FALSE(read(Json{{"pad_token_id", -1}}).pad_id);  // as some files say "none"
  EXPECT_TRUE(read(Json{{"attention_dropout", 0.0}, {"resid_pdrop", 0}}).dropouts.empty());
  EXPECT_EQ(read(Json{{"attention_dropout", 0.1}}).dropouts, std::vector<std::string>{"attention_dropout"});
}

// A window by layer: of all, from a layer on, or where layer_types says.
TEST(Config, WindowsAreThoseOfTheLayers) {
  const auto windows = [](const char* type, const Json& more) {
    Json changes{{"model_type", type}, {"num_hidden_layers", 3}};
    changes.merge_patch(more);
    return read(changes).windows;
  };
  using Windows = std::vector<int64_t>;
  const Json types{"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows("llama", Json{{"sliding_window", 9}}), (Windows{0, 0, 0}));
  EXPECT_EQ(windows("mistral", Json{{"sliding_window", 9}}), (Windows{9, 9, 9}));
  EXPECT_EQ(windows("mistral", Json::object()), (Windows{4096, 4096, 4096}));
  for (const char* type : {"mistral", "ministral"})  // transformers takes either with layer_types for Ministral
    EXPECT_EQ(windows(type, Json{{"sliding_window", 9}, {"layer_types", types}}), (Windows{9, 0, 9}));
  EXPECT_EQ(
      read(std::string(R"({"model_type": "mistral", "hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 8,
                     "intermediate_size": 40, "vocab_size": 103, "sliding_window": null})"))
          .windows,
      (Windows{0}));
  for (const char* type : {"qwen2", "qwen3"}) {
    EXPECT_EQ(windows(type, Json{{"sliding_window", 9}}), (Windows{0, 0, 0}));
    const Json used{{"use_sliding_window", true}, {"sliding_window", 9}};
    EXPECT_EQ(windows(type, used), (Windows{0, 0, 0}));  // from layer 28 on
    Json from = used, chosen = used;
    from["max_window_layers"] = 1;
    chosen["layer_types"] = types;
    EXPECT_EQ(windows(type, from), (Windows{0, 9, 9}));
    EXPECT_EQ(windows(type, chosen), (Windows{9, 0, 9}));
  }
  EXPECT_TRUE(holds(error_of([&] {
                      windows("qwen2", Json{{"layer_types", {"full_attention"}}});
                    }),
                    "layer_types must be an array of num_hidden_layers (3) words"));
  EXPECT_TRUE(holds(error_of([&] {
                      windows("qwen2", Json{{"layer_types", {"a", "b", "c"}}});
                    }),
                    "layer_types has \"a\""));
}

// As Python takes them; a merge of JSON would leave the keys out.
TEST(Config, NullIsFalseAndNoLayerWhereThereIsNoWindow) {
  const auto with = [](const char* type, const std::string& more) {
    std::string text = config_json({{"model_type", type}}).dump();
    text.back() = ',';
    return text + more + "}";
  };
  const ModelConfig llama =
      read(with("llama", R"("attention_bias": null, "mlp_bias": null, "tie_word_embeddings": null)"));
  EXPECT_FALSE(llama.qkv_bias || llama.o_bias || llama.mlp_bias || llama.tied);
  const std::string no_layer = R"("sliding_window": 9, "max_window_layers": null, "use_sliding_window": )";
  EXPECT_EQ(read(with("qwen2", no_layer + "null")).windows, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(read(with("qwen2", no_layer + R"(true, "layer_types": ["full_attention", "sliding_attention"])")).windows,
            (std::vector<int64_t>{0, 9}));
  EXPECT_TRUE(holds(error_of([&] { read(with("qwen2", no_layer + "true")); }), "max_window_layers is null",
                    "must be the number of a layer"));
}

TEST(Config, AWrittenFileHasTheNewDtypeAndAllElse) {
  const ScratchFolder scratch;
  for (const char* key : {"dtype", "torch_dtype"}) {
    Json before = config_json({{key, "float32"}, {"unknown to us", {1, 2}}});
    write_text(scratch / "config.json", before.dump());
    before[key] = "bfloat16";
    EXPECT_EQ(Json::parse(saved_config_text(read_model_config(scratch / "config.json"), DType::bf16)), before);
  }
}

// transformers knows a shipped family's classes itself, and those of another by its code alone.
TEST(Config, AWrittenFileNamesCodeWhereTheFamilyIsAFiles) {
  const ScratchFolder scratch;
  const Json map{{"AutoConfig", "configuration_own.OwnConfig"}};
  write_text(scratch / "config.json", config_json({{"auto_map", map}}).dump());
  const auto saved = [&](const FamilyPointer& family) {
    return Json::parse(saved_config_text(read_model_config(scratch / "config.json", family), DType::f32));
  };
  EXPECT_FALSE(saved(nullptr).contains("auto_map"));
  EXPECT_EQ(saved(parse_family(R"({"family": "own", "like": "llama"})", "own.json"))["auto_map"], map);
}

// ---- rope: both spellings, each kind's formula

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
  const double turns = 48 * plain / (2 * pi);  // in the original context
  const double kept = std::clamp((turns - 1) / (4 - 1), 0.0, 1.0);
  return plain * (kept + (1 - kept) / 8);
}

// The index i of θ^(−i/8), as a real number.
double index_of(double plain) { return -8 * std::log(plain) / std::log(theta); }

// YaRN's paper, section 3.2: a pair that turns 4 times in the original 48 positions is kept, one that turns half a time
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
        const ModelConfig config = read(changes);
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

Json scaling(const char* type, const Json& more) {
  Json out{{"rope_type", type}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
  out.merge_patch(more);
  return Json{{"rope_scaling", out}};
}

// What the turned elements are multiplied by: YaRN's equation 22, LongRoPE's square root, or what the file says.
TEST(Rope, LongContextsHaveAMagnitude) {
  const auto magnitude = [](const char* kind, const Json& more) {
    Json scaling{{"rope_type", kind}};
    if (std::string(kind) == "longrope")
      scaling.update({{"short_factor", short_factors}, {"long_factor", long_factors}});
    scaling.merge_patch(more);
    return read(Json{{"max_position_embeddings", 1024}, {"rope_scaling", scaling}}).rope.magnitude;
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
  EXPECT_EQ(read(Json{{"rope_scaling", scaling}}).rope.kind, RopeKind::yarn);
  scaling["short_factor"] = short_factors;
  const RopeConfig rope = read(Json{{"rope_scaling", scaling}}).rope;
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
    return read(changes).rope.original_max_positions;
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
  const ModelConfig config = read(changes);
  EXPECT_EQ(config.rope.magnitude, 1);
  std::vector<float> frequencies(half);
  rope_frequencies(config, 48, frequencies);
  EXPECT_FLOAT_EQ(frequencies[7], static_cast<float>(std::pow(theta, -7.0 / 8) / 1.7));
  changes["rope_scaling"] = {{"type", "yarn"}};
  EXPECT_EQ(read(changes).rope.factor, 0.75);
  EXPECT_EQ(read(changes).rope.magnitude, 1);
  changes["rope_scaling"]["factor"] = 0.75;
  EXPECT_TRUE(holds(error_of([&] { read(changes); }), "rope_scaling.factor is 0.75; it must be 1 or more"));
}

// Qwen's files keep max_position_embeddings when somebody adds YaRN, Vicuna's of 16K when they were trained with a
// factor; Llama's have the stretched context.
TEST(Rope, TheTrainedPositionsAreTheStretchedOnes) {
  const auto positions = [](int64_t most, const Json& values) {
    return trained_positions(read(Json{{"max_position_embeddings", most}, {"rope_scaling", values}}));
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
    return read(Json{{"rope_scaling", scaling}}).rope;
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
    EXPECT_EQ(read(changes).rope.kind, RopeKind::standard);
    EXPECT_EQ(read(changes).rope.theta, 500);
  }
}

TEST(Rope, WhatNothingReadsIsNamed) {
  using Names = std::vector<std::string>;
  for (const RopeCase& rope : rope_cases())
    for (const Json& changes : spellings(rope)) EXPECT_EQ(read(changes).rope.unread, Names{}) << changes.dump();
  Json values = scaling("llama3", {{"low_freq_facter", 2}, {"beta_fast", 32}, {"attn_factor", nullptr}});
  const ModelConfig config = read(values);
  EXPECT_EQ(config.rope.unread, (Names{"rope_scaling.low_freq_facter", "rope_scaling.beta_fast"}));
  EXPECT_TRUE(holds(unread_keys_text(config),
                    "config.json: not understood and left out: rope_scaling.low_freq_facter, "
                    "rope_scaling.beta_fast"));
  values = Json{{"rope_parameters", {{"rope_theta", 500}, {"partial_rotary_factor", 1}, {"factor", 2}}}};
  EXPECT_EQ(read(values).rope.unread, Names{"rope_parameters.factor"});
  EXPECT_EQ(unread_keys_text(read()), "");
}

// As transformers reads a config.json that it wrote and somebody then scaled the old way, the base frequency included.
TEST(Rope, OfBothSpellingsTheOlderCounts) {
  const Json newer{{"rope_type", "default"}, {"rope_theta", 777}}, older{{"rope_type", "linear"}, {"factor", 4}};
  const RopeConfig rope = read(Json{{"rope_parameters", newer}, {"rope_scaling", older}}).rope;
  EXPECT_EQ(rope.kind, RopeKind::linear);
  EXPECT_EQ(rope.factor, 4);
  EXPECT_EQ(rope.theta, 500);
  EXPECT_EQ(read(Json{{"rope_parameters", newer}, {"rope_scaling", Json::object()}}).rope.theta, 777);
}

// ---- what is refused

struct Refusal {
  Json changes;
  std::vector<std::string> holds;  // key, value and mend
};

std::vector<Refusal> refusals() {
  std::vector<Refusal> all{
      {{{"model_type", nullptr}}, {"model_type is missing", "llama, "}},
      {{{"model_type", 7}}, {"model_type is missing or no string", "llama, "}},
      {{{"model_type", "bert"}}, {"model_type \"bert\"", "known: ", "llama, "}},
      {{{"hidden_act", "gelu"}}, {"hidden_act \"gelu\"", "silu"}},
      {{{"hidden_act", 3}}, {"hidden_act is 3", "must be a string"}},
      {{{"num_key_value_heads", 4}}, {"num_key_value_heads (4)", "num_attention_heads (6)", "1, 2, 3 or 6"}},
      {{{"num_key_value_heads", 12}}, {"num_key_value_heads (12)", "1, 2, 3 or 6"}},
      {{{"hidden_size", 97}}, {"num_attention_heads (6)", "hidden_size (97)", "head_dim"}},
      {{{"head_dim", 15}}, {"head_dim (15)", "even"}},
      {{{"rms_norm_eps", 0}}, {"rms_norm_eps is 0", "between"}},
      {{{"rms_norm_eps", -1e-6}}, {"rms_norm_eps is -1e-06", "between"}},
      {{{"rms_norm_eps", "1e-6"}}, {"rms_norm_eps is \"1e-6\"", "must be a number"}},
      {{{"rope_theta", 0}}, {"rope_theta is 0", "between"}},
      {{{"rope_theta", 1e300}}, {"rope_theta is 1e+300", "between"}},
      {{{"rope_theta", {1}}}, {"rope_theta is an array", "must be a number"}},
      {{{"initializer_range", -1}}, {"initializer_range is -1", "between"}},
      {{{"attention_bias", "yes"}}, {"attention_bias is \"yes\"", "true or false"}},
      {{{"mlp_bias", 1}}, {"mlp_bias is 1", "true or false"}},
      {{{"tie_word_embeddings", 0}}, {"tie_word_embeddings is 0", "true or false"}},
      {{{"torch_dtype", "int8"}}, {"torch_dtype is int8", "bfloat16"}},
      {{{"dtype", 16}}, {"dtype is 16", "bfloat16"}},
      {{{"tp_plan", "auto"}}, {"tp_plan is \"auto\"", "must map"}},
      {{{"tp_plan", {{"lm_head", 1}}}}, {"tp_plan[\"lm_head\"] is 1", "must name a style"}},
      {{{"rope_scaling", 8}}, {"rope_scaling is 8", "must be an object"}},
      {{{"rope_parameters", "yarn"}}, {"rope_parameters is \"yarn\"", "must be an object"}},
      {scaling("ntk", Json::object()), {"rope_scaling.rope_type \"ntk\"", "linear, dynamic, llama3, yarn, longrope"}},
      {{{"rope_scaling", {{"type", 1}}}}, {"rope_scaling.type is 1", "must be a string"}},
      {scaling("linear", {{"factor", nullptr}}), {"rope_scaling.factor is missing", "linear"}},
      {scaling("dynamic", {{"factor", 0}}), {"rope_scaling.factor is 0", "between"}},
      {scaling("dynamic", {{"factor", 0.5}}), {"rope_scaling.factor is 0.5", "1 or more"}},
      {scaling("llama3", {{"factor", "8"}}), {"rope_scaling.factor is \"8\"", "must be a number"}},
      {scaling("llama3", {{"factor", 1e60}}), {"rope_scaling.factor is 1e+60", "between"}},
      {scaling("llama3", {{"low_freq_factor", nullptr}}), {"rope_scaling.low_freq_factor is missing", "llama3"}},
      {scaling("llama3", {{"high_freq_factor", nullptr}}), {"rope_scaling.high_freq_factor is missing", "llama3"}},
      {scaling("llama3", {{"high_freq_factor", 1}}), {"rope_scaling.high_freq_factor (1)", "above low_freq_factor"}},
      {scaling("yarn", {{"truncate", 1}}), {"rope_scaling.truncate is 1", "true or false"}},
      {scaling("longrope", {{"short_factor", {1, 2}}}), {"rope_scaling.short_factor must be an array of 8 numbers"}},
      {scaling("longrope", {{"short_factor", short_factors}}), {"rope_scaling.long_factor is missing", "longrope"}},
      {scaling("llama3", {{"original_max_position_embeddings", 0.5}}),
       {"original_max_position_embeddings is 0.5", "whole number"}},
      {scaling("llama3", {{"original_max_position_embeddings", 1e300}}),
       {"original_max_position_embeddings is 1e+300", "whole number"}},
  };
  const Json huge = 20000000, unsigned_max = UINT64_MAX, zero = 0, negative = -2, real = 2.5, word = "8";
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                          "intermediate_size", "vocab_size", "max_position_embeddings"}) {
    for (const Json& value : {zero, negative, huge, unsigned_max})
      all.push_back({{{key, value}}, {std::string(key) + " is " + value.dump(), "must lie between 1 and "}});
    for (const Json& value : {real, word})
      all.push_back({{{key, value}}, {std::string(key) + " is " + value.dump(), "whole number"}});
  }
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"})
    all.push_back({{{key, nullptr}}, {std::string(key) + " is missing", "needed"}});
  all.push_back({{{"num_hidden_layers", 100000}}, {"num_hidden_layers is 100000", "must lie between 1 and "}});
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    for (const Json& value : {Json(103), Json(-2), huge})
      all.push_back({{{key, value}}, {std::string(key) + " is " + value.dump(), "outside of the vocabulary of 103"}});
    for (const Json& value : {real, word, Json::object()})
      all.push_back({{{key, value}}, {std::string(key) + " is ", "must be a token id"}});
  }
  all.push_back({{{"eos_token_id", {2, 103}}}, {"eos_token_id is 103", "outside of the vocabulary of 103"}});
  return all;
}

TEST(Config, EveryBadValueIsRefusedWithKeyValueAndMend) {
  for (const Refusal& refusal : refusals()) {
    const std::string error = error_of([&] { read(refusal.changes); });
    EXPECT_TRUE(holds(error, "config.json: ")) << refusal.changes.dump();
    for (const std::string& part : refusal.holds) EXPECT_TRUE(holds(error, part)) << refusal.changes.dump();
  }
}

TEST(Config, AFileThatIsNoConfigurationIsRefused) {
  for (const char* text : {"", "[]", "{\"model_type\": \"llama\"", "3", "\xff"})
    EXPECT_TRUE(holds(error_of([&] { read(std::string(text)); }), "config.json: not a JSON object", "may be cut"));
  EXPECT_TRUE(holds(error_of([] { read_model_config("nowhere/config.json"); }), "nowhere/config.json", "no such file"));
}

}  // namespace
}  // namespace llama_tp
