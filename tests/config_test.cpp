// config.json: what is said and what is not, and what is written back. Its rotary part: rope_config_test.cpp; what is
// refused: refused_config_test.cpp.
#include <gtest/gtest.h>

#include "support/error_of.h"
#include "support/written_config.h"

namespace llama_tp {
namespace {

using Json = OrderedJson;

TEST(Config, WhatIsNotSaidIsAsInTransformers) {
  const ModelConfig config = read_config(Json{{"num_key_value_heads", nullptr}, {"rope_theta", nullptr}});
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
  const ModelConfig config = read_config(Json{{"head_dim", 32},
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
                                              {"tp_plan",
                                               {{"layers.*.mlp.up_proj", "column"},
                                                {"layers.1.mlp.up_proj", "replicated"},
                                                {"layers.1.mlp.gate_proj", "replicated"},
                                                {"layers.1.mlp.down_proj", "replicated"}}}});
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
  ASSERT_EQ(config.plan_overrides.size(), 4u);  // in the order of the file
  EXPECT_EQ(config.plan_overrides[1], std::make_pair(std::string("layers.1.mlp.up_proj"), std::string("replicated")));
  EXPECT_EQ(config.plan_overrides[3].first, "layers.1.mlp.down_proj");
  ASSERT_EQ(config.plan.layers.size(), 2u);
  EXPECT_TRUE(config.plan.layers[0].mlp && !config.plan.layers[1].mlp);
  EXPECT_FALSE(read_config(Json{{"pad_token_id", -1}}).pad_id);  // as some files say "none"
  EXPECT_EQ(read_config(Json{{"hidden_act", "swish"}}).activation.kind, Activation::silu);
  EXPECT_EQ(read_config(Json{{"hidden_act", "gelu_new"}}).activation.kind, Activation::gelu_tanh);
  EXPECT_TRUE(read_config(Json{{"attention_dropout", 0.0}, {"resid_pdrop", 0}}).dropouts.empty());
  for (const char* key :
       {"attention_dropout", "resid_pdrop", "embd_pdrop", "residual_dropout", "hidden_dropout", "embedding_dropout"})
    EXPECT_EQ(read_config(Json{{key, 0.1}}).dropouts, std::vector<std::string>{key});
}

// The defaults of transformers' configurations; a factor of yarn or longrope that is not given is a ratio to it.
TEST(Config, TheContextThatIsNotSaidIsTheFamilys) {
  const std::pair<const char*, int64_t> contexts[] = {
      {"llama", 2048},    {"granite", 2048}, {"mistral", 131072}, {"ministral", 131072}, {"qwen2", 32768},
      {"qwen3", 32768},   {"phi3", 4096},    {"nemotron", 4096},  {"smollm3", 32768},    {"starcoder2", 4096},
      {"stablelm", 4096}, {"gemma", 8192},   {"jais2", 8192}};
  for (const auto& [type, context] : contexts) {
    EXPECT_EQ(read_config(Json{{"model_type", type}}).max_positions, context) << type;
    EXPECT_EQ(read_config(Json{{"model_type", type}, {"max_position_embeddings", 77}}).max_positions, 77) << type;
  }
}

// What would be another block than the family has; null says nothing, as in transformers.
TEST(Config, ValuesThatAFamilyDoesNotHaveAreRefused) {
  const auto stablelm = [](const char* key, const Json& value) {
    Json config = config_json({{"model_type", "stablelm"}});
    config[key] = value;
    return config.dump();
  };
  for (const char* key : {"use_parallel_residual", "qk_layernorm"}) {
    EXPECT_TRUE(holds(error_of([&] { read_config(stablelm(key, true)); }),
                      text("config.json: ", key, " is true, which is not implemented in the stablelm family"),
                      "known: false"));
    for (const Json& value : {Json(false), Json()}) EXPECT_NO_THROW(read_config(stablelm(key, value))) << key;
  }
}

// Files of Gemma's first release say "gelu" and mean its approximation.
TEST(Config, GemmaIsAsInTransformers) {
  const Json gemma{
      {"model_type", "gemma"}, {"hidden_size", 3072}, {"num_key_value_heads", nullptr}, {"num_attention_heads", 16}};
  const auto with = [&](const Json& more) {
    Json changes = gemma;
    changes.merge_patch(more);
    return read_config(changes);
  };
  const ModelConfig config = with({{"hidden_act", "gelu"}});
  EXPECT_EQ(config.activation.kind, Activation::gelu_tanh);
  EXPECT_EQ(config.kv_heads, 16);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.norm.kind, NormKind::rms_1p);
  EXPECT_FLOAT_EQ(config.embedding_multiplier, 55.425625f);
  EXPECT_EQ(config.pad_id, 0);
  EXPECT_TRUE(config.tied);
  EXPECT_TRUE(holds(error_of([&] {
                      with({{"hidden_act", "silu"}});
                    }),
                    "hidden_act is \"silu\", which is not implemented in the gemma family; known: "
                    "\"gelu_pytorch_tanh\", \"gelu\""));
  EXPECT_TRUE(holds(error_of([&] { with({{"use_bidirectional_attention", true}}); }), "known: false"));
}

// As transformers runs such a file: no text holds the id, so that nothing begins or ends there.
TEST(Config, IdsThatTheVocabularyLacksEndNothing) {
  const ModelConfig config =
      read_config(Json{{"bos_token_id", 103}, {"eos_token_id", {2, 151643, -1, -2, UINT64_MAX, 102}}});
  EXPECT_FALSE(config.bos_id);
  EXPECT_EQ(config.eos_ids, (std::vector<int64_t>{2, 102}));
  ASSERT_EQ(left_out_of(config).size(), 1u);
  EXPECT_TRUE(holds(left_out_of(config)[0],
                    "config.json: left out, as outside of the vocabulary of 103: eos_token_id 151643, eos_token_id -2, "
                    "eos_token_id 18446744073709551615, bos_token_id 103"));
  const ModelConfig sound = read_config(Json{{"bos_token_id", {1}}, {"eos_token_id", 102}, {"pad_token_id", -1}});
  EXPECT_EQ(sound.bos_id, 1);
  EXPECT_EQ(left_out_of(sound), std::vector<std::string>{});
}

TEST(Config, ThePadOfAFamilyIsOneOfALargeVocabulary) {
  const auto pad = [](const char* type, int64_t vocabulary, const Json& more = Json::object()) {
    Json changes{{"model_type", type}, {"vocab_size", vocabulary}};
    changes.merge_patch(more);
    return read_config(changes).pad_id;
  };
  EXPECT_EQ(pad("phi3", 32064), 32000);
  EXPECT_EQ(pad("phi3", 32000), std::nullopt);
  EXPECT_EQ(pad("phi3", 32064, Json{{"pad_token_id", 7}}), 7);
  EXPECT_EQ(pad("phi3", 32064, Json{{"pad_token_id", -1}}), std::nullopt);
  EXPECT_EQ(pad("llama", 32064), std::nullopt);
  std::string text = config_json({{"model_type", "phi3"}, {"vocab_size", 32064}}).dump();
  text.back() = ',';
  EXPECT_EQ(read_config(text + R"("pad_token_id": null})").pad_id, std::nullopt);
}

// A window by layer: of all, from a layer on, or where layer_types says.
TEST(Config, WindowsAreThoseOfTheLayers) {
  const auto windows = [](const char* type, const Json& more) {
    Json changes{{"model_type", type}, {"num_hidden_layers", 3}};
    changes.merge_patch(more);
    return read_config(changes).windows;
  };
  using Windows = std::vector<int64_t>;
  const Json types{"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows("llama", Json{{"sliding_window", 9}}), (Windows{0, 0, 0}));
  EXPECT_EQ(windows("mistral", Json{{"sliding_window", 9}}), (Windows{9, 9, 9}));
  EXPECT_EQ(windows("mistral", Json::object()), (Windows{4096, 4096, 4096}));
  for (const char* type : {"mistral", "ministral"})  // transformers takes either with layer_types for Ministral
    EXPECT_EQ(windows(type, Json{{"sliding_window", 9}, {"layer_types", types}}), (Windows{9, 0, 9}));
  EXPECT_EQ(
      read_config(
          std::string(R"({"model_type": "mistral", "hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 8,
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

// SmolLM3Config's: what its list says, which may be longer than there are layers; else all but every fourth, or n-th.
// Without layer_types those that do not rotate have the window.
TEST(Config, RotaryLayersAreThoseThatTurn) {
  const auto read = [](const char* type, const Json& more) {
    Json changes{{"model_type", type}, {"num_hidden_layers", 5}};
    changes.merge_patch(more);
    return read_config(changes);
  };
  const auto rotary = [&](const char* type, const Json& more) { return read(type, more).rotary_layers; };
  using Layers = std::vector<bool>;
  using Windows = std::vector<int64_t>;
  const Json list{0, 1, 1, 0, 1, 0}, interval{{"no_rope_layer_interval", 2}};
  EXPECT_EQ(rotary("llama", Json{{"no_rope_layers", list}}), Layers(5, true));
  EXPECT_EQ(rotary("smollm3", Json::object()), (Layers{true, true, true, false, true}));
  EXPECT_EQ(rotary("smollm3", interval), (Layers{true, false, true, false, true}));
  EXPECT_EQ(rotary("smollm3", Json{{"no_rope_layer_interval", 1}}), Layers(5, false));
  Json both = interval;
  both["no_rope_layers"] = list;
  EXPECT_EQ(rotary("smollm3", both), (Layers{false, true, true, false, true}));

  both.update({{"use_sliding_window", true}, {"sliding_window", 9}});
  EXPECT_EQ(read("smollm3", both).windows, (Windows{9, 0, 0, 9, 0}));
  EXPECT_EQ(read("mistral", both).windows, (Windows{9, 9, 9, 9, 9}));
  both["layer_types"] =
      Json{"full_attention", "sliding_attention", "full_attention", "full_attention", "full_attention"};
  EXPECT_EQ(read("smollm3", both).windows, (Windows{0, 9, 0, 0, 0}));

  const auto refused = [&](const Json& more) { return error_of([&] { read("smollm3", more); }); };
  both["use_sliding_window"] = false;
  EXPECT_TRUE(holds(refused(both), "layer_types has sliding_attention, but use_sliding_window is false"));
  both.update({{"use_sliding_window", true}, {"sliding_window", nullptr}});
  EXPECT_TRUE(holds(refused(both),
                    "layer_types has sliding_attention, but sliding_window (the default of family smollm3) is null",
                    "give a window"));
  EXPECT_TRUE(holds(refused(Json{{"no_rope_layers", {1, 1, 1, 0}}}),
                    "config.json: no_rope_layers must be an array with a number for each of num_hidden_layers (5)"));
  EXPECT_TRUE(holds(refused(Json{{"no_rope_layers", 4}}), "no_rope_layers must be an array"));
  EXPECT_TRUE(holds(refused(Json{{"no_rope_layers", {1, 2, 1, 0, 1}}}), "no_rope_layers has 2", "0 for one without"));
  EXPECT_TRUE(holds(refused(Json{{"no_rope_layer_interval", 0}}), "no_rope_layer_interval is 0", "between 1"));
}

TEST(Config, WhatSmolLM3DoesNotSayIsAsInTransformers) {
  const ModelConfig config = read_config(
      std::string(R"({"model_type": "smollm3", "hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 8,
                     "intermediate_size": 40, "vocab_size": 128256})"));
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.rope.theta, 2000000);
  EXPECT_EQ(config.pad_id, 128004);
  EXPECT_TRUE(config.tied);
  EXPECT_FALSE(config.qkv_bias || config.o_bias || config.mlp_bias);
}

// A config.json with logits_scaling 4, read by a family that is like another but for some options.
float logits_multiplier(const std::string& like, const std::string& options) {
  const ScratchFolder scratch;
  write_text(scratch / "config.json", config_json({{"logits_scaling", 4}}).dump());
  const std::string family = R"({"family": "own", "like": ")" + like + R"(", "options": )" + options + "}";
  return read_model_config(scratch / "config.json", parse_family(family, "own.json")).logits_multiplier;
}

TEST(Config, LogitsAreMultipliedOrDivided) {
  EXPECT_EQ(logits_multiplier("llama", "{}"), 1);
  EXPECT_EQ(logits_multiplier("granite", "{}"), 0.25);
  EXPECT_EQ(logits_multiplier("unlisted", "{}"), 0.25);
  EXPECT_EQ(logits_multiplier("llama", R"({"logits_divisor": "$logits_scaling|1.0"})"), 0.25);
  EXPECT_EQ(logits_multiplier("llama", R"({"logits_multiplier": "$logits_scaling|1.0"})"), 4);
  EXPECT_EQ(logits_multiplier("granite", R"({"logits_divisor": null, "logits_multiplier": "$missing|3"})"), 3);
  EXPECT_TRUE(holds(error_of([] { logits_multiplier("granite", R"({"logits_multiplier": "$logits_scaling"})"); }),
                    "family own: has both options logits_multiplier and logits_divisor; make one of them null"));
  EXPECT_TRUE(holds(error_of([] { logits_multiplier("llama", R"({"logits_multiplier": 0})"); }),
                    "option logits_multiplier of family own is 0", "between"));
}

// EXAONE 3's, as its own code read it.
TEST(Config, AFamilySaysByWhichKeysItsSizesAreCalled) {
  const FamilyPointer family = parse_family(R"({"family": "exaone", "like": "llama", "options": {
    "hidden_size": "$d", "num_hidden_layers": "$num_layers", "num_attention_heads": "$n_head",
    "intermediate_size": "$ffn", "vocab_size": "$words", "rope_theta": "$rotary_emb_base|500000"}})",
                                            "exaone.json");
  const ScratchFolder scratch;
  const auto read = [&](const Json& changes) {
    Json json{{"d", 96}, {"num_layers", 3}, {"n_head", 6}, {"ffn", 40}, {"words", 103}, {"rope_theta", 7}};
    json.merge_patch(changes);
    write_text(scratch / "config.json", json.dump());
    return read_model_config(scratch / "config.json", family);
  };
  const ModelConfig config = read(Json{{"rotary_emb_base", 2000}});
  EXPECT_EQ(config.hidden, 96);
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.heads, 6);
  EXPECT_EQ(config.ffn, 40);
  EXPECT_EQ(config.vocabulary, 103);
  EXPECT_EQ(config.rope.theta, 2000);
  EXPECT_EQ(read(Json::object()).rope.theta, 500000);

  const auto refused = [&](const Json& changes) { return error_of([&] { read(changes); }); };
  EXPECT_TRUE(holds(refused(Json{{"num_layers", nullptr}}), "num_layers is missing; the exaone family needs it"));
  EXPECT_TRUE(holds(refused(Json{{"num_layers", 100000}}), "num_layers is 100000", "between 1 and 16384"));
  EXPECT_TRUE(holds(refused(Json{{"rotary_emb_base", 0}}), "rotary_emb_base is 0", "between"));
  EXPECT_TRUE(holds(refused(Json{{"d", 97}}), "n_head (6) does not divide d (97)"));
  EXPECT_TRUE(holds(refused(Json{{"num_key_value_heads", 4}}), "num_key_value_heads (4) does not divide n_head (6)"));
  EXPECT_TRUE(holds(refused(Json{{"d", 9000000}, {"ffn", 9000000}}), "check num_layers, d, ffn, n_head and head_dim"));
}

// One that attended to everything would be another model's; transformers refuses it, too.
TEST(Config, ALayerThatSlidesNeedsAWindow) {
  const auto refused = [](const char* type, const std::string& more, const std::string& why) {
    std::string file = config_json({{"model_type", type}}).dump();
    file.back() = ',';
    file += R"("layer_types": ["full_attention", "sliding_attention"], )" + more + "}";
    EXPECT_TRUE(holds(error_of([&] { read_config(file); }), "config.json: layer_types has sliding_attention, but " +
                                                                why + "; give a window, or make it full_attention"));
  };
  refused("qwen2", R"("use_sliding_window": false, "sliding_window": 7)", "use_sliding_window is false");
  refused("qwen3", R"("use_sliding_window": true, "sliding_window": null)", "sliding_window is null");
  refused("mistral", R"("sliding_window": null)", "sliding_window is null");
}

// As Python takes them; a merge of JSON would leave the keys out.
TEST(Config, NullIsFalseAndNoLayerWhereThereIsNoWindow) {
  const auto with = [](const char* type, const std::string& more) {
    std::string text = config_json({{"model_type", type}}).dump();
    text.back() = ',';
    return text + more + "}";
  };
  const ModelConfig llama =
      read_config(with("llama", R"("attention_bias": null, "mlp_bias": null, "tie_word_embeddings": null)"));
  EXPECT_FALSE(llama.qkv_bias || llama.o_bias || llama.mlp_bias || llama.tied);
  const std::string no_layer = R"("sliding_window": 9, "max_window_layers": null, "use_sliding_window": )";
  EXPECT_EQ(read_config(with("qwen2", no_layer + "null")).windows, (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(
      read_config(with("qwen2", no_layer + R"(true, "layer_types": ["full_attention", "sliding_attention"])")).windows,
      (std::vector<int64_t>{0, 9}));
  EXPECT_TRUE(holds(error_of([&] { read_config(with("qwen2", no_layer + "true")); }), "max_window_layers is null",
                    "must be the number of a layer"));
  EXPECT_TRUE(holds(error_of([&] { read_config(with("llama", R"("is_causal": null)")); }), "is_causal is null"));
  EXPECT_EQ(read_config(Json{{"is_causal", true}}).layers, 2);
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

// torch_dtype is the older name of dtype.
TEST(Config, AWrittenFileNamesOneDtype) {
  const ScratchFolder scratch;
  for (const Json& newer : {Json("float32"), Json()}) {
    Json before = config_json({{"torch_dtype", "float16"}});
    before["dtype"] = newer;
    write_text(scratch / "config.json", before.dump());
    const Json after = Json::parse(saved_config_text(read_model_config(scratch / "config.json"), DType::bf16));
    EXPECT_EQ(after.value("dtype", ""), "bfloat16");
    EXPECT_FALSE(after.contains("torch_dtype"));
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

}  // namespace
}  // namespace llama_tp
