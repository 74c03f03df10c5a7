// A family from a file, --family: what it leaves out of a config.json, what it refuses and what is refused of it.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "io/files.h"
#include "model/checkpoint.h"
#include "model/infer_family.h"
#include "model/parameters.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"

namespace llama_tp {
namespace {

using Json = nlohmann::ordered_json;

Json read_json(const std::string& file) { return Json::parse(read_text(file)); }

// Of a config.json what no option takes is named with a family from a file, inferred or written by hand, and with one
// that a checkpoint keeps; a listed family is known to need no more.
TEST(Family, NamesTheKeysThatItDoesNotTake) {
  const ScratchFolder scratch;
  const std::string golden = "tests/goldens/models/gqa", file = scratch / "config.json";
  std::filesystem::copy(golden + "/model.safetensors", scratch.path());
  Json config = read_json(golden + "/config.json");
  config.update({{"model_type", "novel"},
                 {"attn_logit_softcapping", 50.0},
                 {"embedding_multiplier", 2.0},
                 {"clip_qkv", nullptr},
                 {"no_rope_layers", {1, 0}},
                 {"hidden", 8},
                 {"attention_bias", false},
                 {"attention_dropout", 0.0},
                 {"rope_parameters", {{"rope_theta", 500.0}, {"partial_rotary_factor", 0.5}}}});
  write_text(file, config.dump());
  using Lines = std::vector<std::string>;
  const auto line = [&](const std::string& name, const std::string& keys) {
    return Lines{text(file, ": not read by family ", name, ": ", keys,
                      "; where one of them changes what the model computes, so must the family")};
  };
  const auto said = [&](const std::string& family) {
    return left_out_of(read_model_config(file, parse_family(family, "mine.json")));
  };
  const Json like{{"family", "x"}, {"like", "llama"}};
  const std::string rotary = "rope_parameters.partial_rotary_factor";
  const Lines plain = line("x", "attn_logit_softcapping, embedding_multiplier, no_rope_layers, hidden, " + rotary);
  EXPECT_EQ(said(like.dump()), plain);
  Json with_options = like;
  with_options["options"] = {{"rotary_fraction", "$" + rotary + "|$hidden|1.0"},
                             {"embedding_multiplier", "$attn_logit_softcapping|$embedding_multiplier|1.0"}};
  EXPECT_EQ(said(with_options.dump()), line("x", "no_rope_layers"));
  EXPECT_EQ(said(infer_family(ModelFiles(scratch.path()), file).text), line("novel", "attn_logit_softcapping, hidden"));
  config["llama_tp_family"] = like;
  write_text(file, config.dump());
  EXPECT_EQ(left_out_of(read_model_config(file)), plain);
  config.erase("llama_tp_family");
  config["model_type"] = "llama";
  write_text(file, config.dump());
  EXPECT_EQ(left_out_of(read_model_config(file)), Lines{});
}

// A family file that is like no other, with every option of the first release.
constexpr const char* first_release_family = R"({
  "family": "mine",
  "model_types": [],
  "modules": [
    {"part": "embedding",      "name": "model.embed_tokens",                          "style": "embedding_rowwise"},
    {"part": "attention_norm", "name": "model.layers.*.input_layernorm",              "style": "replicated"},
    {"part": "q",              "name": "model.layers.*.self_attn.q_proj",             "style": "colwise"},
    {"part": "k",              "name": "model.layers.*.self_attn.k_proj",             "style": "colwise"},
    {"part": "v",              "name": "model.layers.*.self_attn.v_proj",             "style": "colwise"},
    {"part": "o",              "name": "model.layers.*.self_attn.o_proj",             "style": "rowwise"},
    {"part": "mlp_norm",       "name": "model.layers.*.post_attention_layernorm",     "style": "replicated"},
    {"part": "gate",           "name": "model.layers.*.mlp.gate_proj",                "style": "colwise"},
    {"part": "up",             "name": "model.layers.*.mlp.up_proj",                  "style": "colwise"},
    {"part": "down",           "name": "model.layers.*.mlp.down_proj",                "style": "rowwise"},
    {"part": "final_norm",     "name": "model.norm",                                  "style": "replicated"},
    {"part": "head",           "name": "lm_head",                                     "style": "colwise"}
  ],
  "options": {
    "kv_heads": "$num_key_value_heads|null",
    "head_dim": "$head_dim|null",
    "norm": "rms",
    "norm_epsilon": "$rms_norm_eps|1e-6",
    "norm_bias": false,
    "activation": "$hidden_act|\"silu\"",
    "gated": true,
    "qkv_bias": "$attention_bias|false",
    "o_bias": "$attention_bias|false",
    "mlp_bias": "$mlp_bias|false",
    "qk_norm": false,
    "tied": "$tie_word_embeddings|false",
    "rotary_fraction": 1.0,
    "original_positions": "$original_max_position_embeddings|null",
    "windowed": true,
    "window": null,
    "first_windowed_layer": 0,
    "layer_types": null,
    "attention_multiplier": null,
    "residual_multiplier": 1.0,
    "embedding_multiplier": 1.0,
    "logits_divisor": 1.0,
    "initializer_range": "$initializer_range|0.02"
  }
})";

// What is saved stays readable: an option that a file lacks is llama's.
TEST(Family, AFileOfTheFirstReleaseStillLoads) {
  const std::string golden = "tests/goldens/models/gqa", samples = golden + "/input.jsonl";
  const ScratchFolder scratch;
  const auto run = [](const std::string& arguments) {
    const CommandResult result = run_command(llama_tp_with(0) + " " + arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const auto train = [&](const std::string& to, const std::string& options) {
    run("train --model " + golden + " --train-file " + samples + " --dtype float32 --max-steps 1" +
        " --global-batch-size 2 --per-device-train-batch-size 1 --output-dir " + (scratch / to) + options);
  };
  write_text(scratch / "mine.json", first_release_family);
  train("mine", " --family " + (scratch / "mine.json"));
  train("known", "");
  EXPECT_EQ(read_json(scratch / "mine/checkpoint-1/config.json")["llama_tp_family"], Json::parse(first_release_family));
  const std::string model = "/checkpoint-1/model.safetensors";
  EXPECT_TRUE(read_text(scratch / "mine" + model) == read_text(scratch / "known" + model));
  const std::string eval = " --json --file " + samples + " -m ";
  EXPECT_EQ(run("eval" + eval + (scratch / "mine")), run("eval" + eval + (scratch / "known")));

  Json misspelt = Json::parse(first_release_family);
  misspelt["options"]["norm_epsilom"] = 0.5;
  EXPECT_TRUE(holds(error_of([&] { parse_family(misspelt.dump(), "mine.json"); }),
                    "mine.json: options.norm_epsilom: there is no such option; docs/families.md shows"));
}

// A family file of a person is refused with what is wrong in it.
TEST(Family, AFileThatIsNoneIsRefused) {
  const auto refused = [](const std::string& text) { return error_of([&] { parse_family(text, "mine.json"); }); };
  EXPECT_TRUE(holds(refused("[]"), "mine.json: holds JSON of type array; it must be an object"));
  EXPECT_TRUE(holds(refused("{\"model_type\": \"llama\"}"), "mine.json: \"family\" is missing"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": null})"), "mine.json: \"like\" is null; docs/families.md"));
  for (const char* key : {"model_types", "modules", "only", "options"})
    EXPECT_TRUE(
        holds(refused(text(R"({"family": "x", "like": "llama", ")", key, R"(": null})")), "mine.json: ", key, "null"))
        << key;
  EXPECT_TRUE(holds(refused("{}"), "mine.json: \"family\" is missing"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "y"})"), "mine.json: like \"y\"", "phi3"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "modules": [{"part": "wheel", "name": "a", "style": "colwise"}]})"),
                    "mine.json: modules[0]: part is wheel"));
  EXPECT_TRUE(
      holds(refused(R"({"family": "x", "like": "llama", "option": {}})"), "mine.json: has no use for \"option\""));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "modules": {}})"),
                    "mine.json: modules: is {}; it must be a list"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "options": []})"),
                    "mine.json: options: is []; it must be an object"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "only": []})"),
                    "mine.json: only: is []; it must be an object"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "only": {"a": true}})"),
                    "mine.json: only.a: is true; it must be a list"));
  EXPECT_TRUE(
      holds(refused(R"({"family": "x", "like": "llama", "modules": [{"part": [], "name": "a", "style": "b"}]})"),
            "mine.json: modules[0]: part is an empty array"));
  EXPECT_TRUE(holds(
      refused(R"({"family": "x", "like": "llama", "modules": [{"part": "q", "name": "a", "style": "b", "bias": 1}]})"),
      "mine.json: modules[0]: has no use for \"bias\""));
  EXPECT_TRUE(holds(refused(R"({"family": 5})"), "mine.json: family: is 5; it must be a string"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": 7})"), "mine.json: like: is 7; it must be a string"));
  EXPECT_TRUE(
      holds(refused(R"({"family": "x", "model_types": [7]})"), "mine.json: model_types[0]: is 7; it must be a string"));
  const auto refused_module = [&](const char* module) {
    const std::string first = R"({"part": "k", "name": null}, )";
    return refused(R"({"family": "x", "like": "llama", "modules": [)" + first + module + "]}");
  };
  EXPECT_TRUE(holds(refused_module("\"q\""), "mine.json: modules[1]: is \"q\"; it must be an object"));
  EXPECT_TRUE(
      holds(refused_module(R"({"part": 5, "name": "a", "style": "b"})"), "modules[1].part: is 5; it must be a string"));
  EXPECT_TRUE(
      holds(refused_module(R"({"part": "q", "name": 7, "style": "b"})"), "modules[1].name: is 7; it must be a string"));
  EXPECT_TRUE(holds(refused_module(R"({"part": "q", "name": "a"})"), "modules[1]: \"style\" is missing"));
  const Json base{{"family", "x"}, {"like", "unlisted"}};
  const auto with = [&](const Json& more) {
    Json family = base;
    family.update(more);
    return error_of(
        [&] { read_model_config("tests/goldens/models/gqa/config.json", parse_family(family.dump(), "mine.json")); });
  };
  EXPECT_TRUE(holds(with({{"options", {{"wheels", 4}}}}), "options.wheels: there is no such option"));
  EXPECT_TRUE(holds(with({{"options", {{"qk_norm", true}}}}), "have the part q_norm 0 times"));
  EXPECT_TRUE(holds(with({{"options", {{"gated", false}}}}), "have the part gate 1 times"));
  EXPECT_TRUE(holds(with({{"options", {{"norm_bias", true}}}}),
                    "gqa/config.json: option norm_bias of family x is true, but family x has the norm rms, which has "
                    "no bias; make it false, or the norm layer_norm or layer_norm_1p"));
  EXPECT_TRUE(
      holds(with({{"options", {{"norm_bias", true}, {"norm", "rms_1p"}}}}), "the norm rms_1p, which has no bias"));
  EXPECT_TRUE(holds(with({{"options", {{"norm", "batch"}}}}),
                    "family x: norm \"batch\" is not implemented; known: rms, rms_1p, layer_norm, layer_norm_1p"));
  EXPECT_TRUE(holds(with({{"options", {{"embedding_multiplier", "$sqrt(model_type)"}}}}),
                    "sqrt(model_type) is \"llama\"; it must be a number"));
  EXPECT_TRUE(holds(with({{"options", {{"embedding_multiplier", "$sqrt(width)"}}}}), "sqrt(width) is missing"));
  const auto module = [](const Json& part, const char* style) {
    return Json{{"modules", Json::array({{{"part", part}, {"name", "a.*.b"}, {"style", style}}})}};
  };
  EXPECT_TRUE(holds(with(module("q", "rowwise")), "a.*.b is \"rowwise\"", "colwise or replicated"));
  EXPECT_TRUE(holds(with(module({"q", "o"}, "packed_colwise")), "packs o"));
  EXPECT_TRUE(holds(with(module({"q", "q"}, "packed_colwise")), "have the part q 2 times"));
}

// What stands in the family's file is not blamed on config.json.
TEST(Family, AnOptionsOwnValueIsRefusedAsTheFamilys) {
  const auto with = [](const char* option, const Json& value) {
    const Json family{{"family", "x"}, {"like", "llama"}, {"options", {{option, value}}}};
    return error_of(
        [&] { read_model_config("tests/goldens/models/gqa/config.json", parse_family(family.dump(), "mine.json")); });
  };
  EXPECT_TRUE(holds(with("norm_epsilon", "1e-5"), "option norm_epsilon of family x is \"1e-5\"; it must be a number"));
  EXPECT_TRUE(holds(with("norm", 1), "option norm of family x is 1; it must be a string"));
  EXPECT_TRUE(holds(with("window", -3), "option window of family x is -3; it must lie between 1 and "));
  EXPECT_TRUE(holds(with("attention_multiplier", "$none|-1"), "none (the default of family x) is -1; it must lie"));
  EXPECT_TRUE(
      holds(with("activation", "$act|silu"),
            "family x: option activation: its default silu is no JSON; a word needs quotes: \"…|\\\"silu\\\"\""));
  for (const double share : {2.0, 1e30})
    EXPECT_TRUE(holds(with("rotary_fraction", share), "option rotary_fraction of family x is ", "no more than all"));
  EXPECT_TRUE(holds(with("layer_types", {"full_attention", "sliding_attention"}),
                    "option layer_types of family x has sliding_attention, but option window of family x is null; "));
}

// Where names and shapes come from a family file, too, it is named beside config.json.
TEST(Family, ItsFileIsNamedWhereItDoesNotFitTheTensors) {
  const std::string golden = "tests/goldens/models/gqa", config = golden + "/config.json";
  const auto refused = [&](const Json& modules, const Json& options) {
    const Json family{{"family", "x"}, {"like", "llama"}, {"modules", modules}, {"options", options}};
    const ModelConfig read = read_model_config(config, parse_family(family.dump(), "mine.json"));
    return error_of([&] { check_tensors(ModelFiles(golden), read, Parameters(read, 0, 1)); });
  };
  const auto module = [](const Json& part, const char* name, const char* style) {
    return Json::array({{{"part", part}, {"name", name}, {"style", style}}});
  };
  const std::string both = config + " and family x";
  EXPECT_TRUE(holds(refused(module("q", "model.layers.*.self_attn.query", "colwise"), Json::object()),
                    "self_attn.query.weight is missing", "is this the model of " + both + "?"));
  EXPECT_TRUE(holds(refused(module({"q", "k"}, "model.layers.*.self_attn.q_proj", "packed_colwise"), Json::object()),
                    "self_attn.q_proj.weight has shape [32, 32], but [48, 32] by " + both + "; "));
  EXPECT_TRUE(holds(refused(Json::array({{{"part", "gate"}, {"name", nullptr}}}), {{"gated", false}}),
                    "mlp.gate_proj.weight has no place in the model of " + both + "; check the modules and biases"));
  EXPECT_TRUE(
      holds(refused(Json::array(), {{"tied", true}}),
            "tied is true, but lm_head.weight differs from model.embed_tokens.weight; make it false in " + both));
}

// Before any weight is read, and as eval does; a config.json without weights has a table, too.
TEST(Family, InspectHoldsItAgainstTheFiles) {
  const ScratchFolder scratch;
  const std::string golden = "tests/goldens/models/gqa", family = scratch / "mine.json";
  const Json q{{"part", "q"}, {"name", "model.layers.*.self_attn.query"}, {"style", "colwise"}};
  write_text(family, Json{{"family", "x"}, {"like", "llama"}, {"modules", Json::array({q})}}.dump());
  const auto inspect = [&](const std::string& model) { return "inspect -m " + model + " --family " + family; };
  const std::string missing = "model.layers.0.self_attn.query.weight is missing";
  for (const int ranks : {0, 2}) expect_refused(ranks, inspect(golden), {golden, missing, "family x"});
  write_text(scratch / "config.json", read_text(golden + "/config.json"));
  const CommandResult table = run_command(llama_tp_with(0) + " " + inspect(scratch.path()));
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_TRUE(holds(table.out, "model.layers.{0-1}.self_attn.query.weight "));
}

// A part of a block without a * would be one layer's alone, and what the others train would be lost.
TEST(Family, ANameHasAStarInTheBlocksAlone) {
  const auto named = [](const char* part, const std::string& name) {
    const Json module{{"part", part}, {"name", name}, {"style", "replicated"}};
    const Json family{{"family", "x"}, {"like", "llama"}, {"modules", Json::array({module})}};
    return error_of(
        [&] { read_model_config("tests/goldens/models/gqa/config.json", parse_family(family.dump(), "mine.json")); });
  };
  const char *one = "it must be a name with one *, where the number of the layer stands", *none = "a name without *";
  EXPECT_TRUE(holds(named("q", "model.layers.attn.q"), "family x: the name of q is \"model.layers.attn.q\"; ", one));
  EXPECT_TRUE(holds(named("down", "model.*.layers.*.down"), "the name of down is ", one));
  EXPECT_TRUE(holds(named("mlp_norm", ""), "the name of mlp_norm is \"\"; ", one));
  EXPECT_TRUE(holds(named("final_norm", "model.*.norm"), "the name of final_norm is \"model.*.norm\"; ", none));
  EXPECT_TRUE(holds(named("embedding", "model.layers.*.embed_tokens"), "the name of embedding is ", none));
  EXPECT_TRUE(holds(named("head", ""), "the name of head is \"\"; ", none));
  EXPECT_TRUE(holds(named("v", "model.layers.*.self_attn.k_proj"),
                    "family x: two modules have the name model.layers.*.self_attn.k_proj; "));
}

}  // namespace
}  // namespace llama_tp
