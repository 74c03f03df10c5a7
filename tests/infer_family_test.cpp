// inspect --infer on the goldens with other names: the family found puts every tensor where the golden's own family
// does, and what it cannot know it refuses by name.
#include "model/infer_family.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "io/files.h"
#include "model/checkpoint.h"
#include "model/parameters.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"

namespace llama_tp {
namespace {

using Json = nlohmann::ordered_json;
using Names = std::map<std::string, std::string>;  // module of the golden → its new name; * is the layer's number

Json read_json(const std::string& file) { return Json::parse(read_text(file)); }

// Calls edit(header, data) on model.safetensors of `from` and writes the result with a config.json of an unknown type.
template <class Edit>
void write_changed(const std::string& from, const std::string& to, const Edit& edit) {
  std::string bytes = read_text(from + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  Json header = Json::parse(bytes.substr(8, length));
  std::string data = bytes.substr(8 + length);
  edit(header, data);
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  length = text.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  write_text(to + "/model.safetensors", file + text + data);
  Json config = read_json(from + "/config.json");
  config["model_type"] = "novel";
  write_text(to + "/config.json", config.dump());
}

// "model.layers.1.mlp.up_proj.weight" by the names of its module.
std::string renamed(const std::string& tensor, const Names& names) {
  const size_t dot = tensor.rfind('.');
  const std::string module = tensor.substr(0, dot), layers = "model.layers.";
  if (!module.starts_with(layers)) return names.at(module) + tensor.substr(dot);
  const size_t end = module.find('.', layers.size());
  const std::string number = module.substr(layers.size(), end - layers.size());
  std::string name = names.at(layers + "*" + module.substr(end));
  return name.replace(name.find('*'), 1, number) + tensor.substr(dot);
}

void write_renamed(const std::string& golden, const Names& names, const std::string& to) {
  write_changed("tests/goldens/models/" + golden, to, [&](Json& header, std::string&) {
    Json changed = Json::object();
    for (const auto& [name, value] : header.items())
      changed[name.starts_with("__") ? name : renamed(name, names)] = value;
    header = changed;
  });
}

// What people call the parts of a block, and opaque names where the shapes alone must tell.
const std::map<std::string, std::vector<std::string>> synonyms{
    {"model.embed_tokens", {"wte", "tok_embeddings", "backbone.embedding.word", "net.Embed"}},
    {"input_layernorm", {"ln_1", "attn_norm", "norm1", "pre_attention_ln"}},
    {"self_attn.q_proj", {"attn.wq", "attention.query", "mixer.q", "sa.q_lin"}},
    {"self_attn.k_proj", {"attn.wk", "attention.key", "mixer.k", "sa.k_lin"}},
    {"self_attn.v_proj", {"attn.wv", "attention.value", "mixer.v", "sa.v_lin"}},
    {"self_attn.o_proj", {"attn.wo", "attention.dense", "mixer.out", "sa.o_lin"}},
    {"self_attn.qkv_proj", {"attn.qkv", "attention.query_key_value", "blob", "sa.in"}},
    {"self_attn.q_norm", {"attn.q_norm", "attention.query_ln", "mixer.qn.q"}},
    {"self_attn.k_norm", {"attn.k_norm", "attention.key_ln", "mixer.kn.k"}},
    {"post_attention_layernorm", {"ln_2", "ffn_norm", "norm2", "pre_mlp_ln"}},
    {"mlp.gate_proj", {"ffn.w1", "feed_forward.gate", "m.gate_lin"}},
    {"mlp.up_proj", {"ffn.w3", "feed_forward.up", "m.up_lin"}},
    {"mlp.gate_up_proj", {"ffn.w13", "feed_forward.gate_up", "blob2"}},
    {"mlp.down_proj", {"ffn.w2", "feed_forward.down", "blob3"}},
    {"model.norm", {"ln_f", "final_norm", "backbone.last"}},
    {"lm_head", {"head", "output", "unembed.linear", "blob4"}}};

Names random_names(std::mt19937& random) {
  const auto chosen = [&](const std::vector<std::string>& words) { return words[random() % words.size()]; };
  const std::string blocks = chosen({"transformer.h.*.", "layers.*.", "net.0.stage.*.", "decoder.block.*.core."});
  Names names;
  for (const auto& [part, words] : synonyms) {
    const bool outside = part.starts_with("model.") || part == "lm_head";
    names[outside ? part : "model.layers.*." + part] = (outside ? "" : blocks) + chosen(words);
  }
  return names;
}

// (stored tensor, its first row) → the file's tensor and the first row in that.
using Places = std::map<std::pair<std::string, int64_t>, std::pair<std::string, int64_t>>;
Places places(const ModelConfig& config) {
  const Parameters table(config, resolve_plan(config), 0, 1);
  Places all;
  for (const Parameter& row : table.rows()) all[{row.weight->name, row.row}] = {row.name, row.file_row};
  return all;
}

TEST(Infer, FindsEveryPartOfModelsRenamedAtRandom) {
  std::mt19937 random(1);
  for (const char* golden :
       {"mha", "gqa", "biases", "mqa_tied", "head_dim", "qwen2", "mistral", "qwen3", "phi3", "granite", "smollm3"})
    for (int round = 0; round < 8; round++) {
      const Names names = random_names(random);
      const ScratchFolder scratch;
      write_renamed(golden, names, scratch.path());
      const std::string config = scratch / "config.json";
      const InferredFamily found = infer_family(ModelFiles(scratch.path()), config);
      SCOPED_TRACE(golden + std::string("\n") + found.text);
      Places expected;
      for (auto [place, tensor] :
           places(read_model_config("tests/goldens/models/" + std::string(golden) + "/config.json")))
        expected[place] = {renamed(tensor.first, names), tensor.second};
      EXPECT_EQ(places(read_model_config(config, parse_family(found.text, "found"))), expected);
    }
}

TEST(Infer, AMadeUpFamilyComputesWhatTheKnownOneDoes) {
  const std::string golden = "tests/goldens/models/qwen3", samples = " --file " + golden + "/input.jsonl --json";
  std::mt19937 random(2);
  const ScratchFolder scratch;
  write_renamed("qwen3", random_names(random), scratch.path());
  const std::string model = " -m " + scratch.path(), family = scratch / "family.json";
  const CommandResult inferred = run_command(llama_tp_with(2) + " inspect" + model + " --infer " + family);
  ASSERT_EQ(inferred.status, 0) << inferred.err;
  EXPECT_TRUE(holds(inferred.err, family + ": written; --family ", "not by 1 + w", "normed before they turn",
                    "(i, i + d/2)", "embedding is not scaled"));
  const CommandResult known = run_command(llama_tp_with(2) + " eval -m " + golden + samples),
                      found = run_command(llama_tp_with(2) + " eval" + model + " --family " + family + samples);
  ASSERT_EQ(found.status, 0) << found.err;
  EXPECT_EQ(found.out, known.out);
  const CommandResult unlisted = run_command(llama_tp_with(0) + " eval" + model + samples);
  EXPECT_TRUE(holds(unlisted.err, "model_type \"novel\" is not a family"));
  const CommandResult again = run_command(llama_tp_with(0) + " inspect" + model + " --infer " + family);
  EXPECT_TRUE(holds(again.err, "exists already"));
}

// Its family and all that it computes are the run's, without --family; one that is given wins.
TEST(Family, ACheckpointKeepsTheOneOfItsRun) {
  const std::string samples = "tests/goldens/models/qwen3/input.jsonl";
  std::mt19937 random(3);
  const ScratchFolder scratch;
  write_renamed("qwen3", random_names(random), scratch.path());
  const std::string family = scratch / "family.json", config = scratch / "config.json", out = scratch / "out";
  write_text(family, infer_family(ModelFiles(scratch.path()), config).text);
  Json with_code = read_json(config);
  with_code["auto_map"] = {{"AutoModelForCausalLM", "modeling_novel.Novel"}};
  write_text(config, with_code.dump());
  write_text(scratch / "modeling_novel.py", "class Novel: pass");
  const auto run = [](int ranks, const std::string& arguments) {
    const CommandResult result = run_command(llama_tp_with(ranks) + " " + arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const auto train = [&](int ranks, const std::string& to, const std::string& options) {
    run(ranks, "train --model " + scratch.path() + " --train-file " + samples +
                   " --dtype float32 --lr-scheduler-type constant" +
                   " --global-batch-size 2 --per-device-train-batch-size 1 --output-dir " + (scratch / to) + options);
  };
  const std::string with_family = " --family " + family;
  train(2, "out", " --max-steps 2" + with_family);
  EXPECT_EQ(read_json(out + "/checkpoint-2/config.json")["llama_tp_family"], read_json(family));
  const std::string eval = "eval -m " + out + " --json --file " + samples;
  EXPECT_EQ(run(0, eval), run(0, eval + with_family));
  train(2, "out", " --max-steps 4 --resume-from-checkpoint");
  train(2, "whole", " --max-steps 4" + with_family);
  const std::string model = "/checkpoint-4/model.safetensors";
  EXPECT_TRUE(read_text(out + model) == read_text(scratch / "whole" + model));
  for (const char* file : {"/config.json", "/modeling_novel.py"})
    EXPECT_EQ(read_text(out + "/checkpoint-4" + file), read_text(out + "/checkpoint-2" + file));

  Json other = read_json(family);
  other["options"]["norm_epsilon"] = 0.5;
  const std::string other_family = " --family " + (scratch / "other.json");
  write_text(scratch / "other.json", other.dump());
  EXPECT_NE(run(0, eval), run(0, eval + other_family));
  const CommandResult resumed =
      run_command(llama_tp_with(0) + " train --model " + scratch.path() + " --train-file " + samples +
                  " --output-dir " + out + " --resume-from-checkpoint latest" + other_family);
  EXPECT_TRUE(holds(resumed.err, "checkpoint-4/config.json: its run has another family; leave --family out"))
      << resumed.err;
  Json kept = read_json(config);
  kept["llama_tp_family"] = 7;
  write_text(config, kept.dump());
  EXPECT_TRUE(holds(error_of([&] { read_model_config(config); }), "config.json: llama_tp_family: not a JSON object"));
}

// The refusal of a golden whose header was edited.
template <class Edit>
std::string refusal(const std::string& golden, const Edit& edit) {
  const ScratchFolder scratch;
  write_changed("tests/goldens/models/" + golden, scratch.path(), edit);
  return error_of([&] { infer_family(ModelFiles(scratch.path()), scratch / "config.json"); });
}

void rename(Json& header, const std::string& part, const std::string& name) {
  Json changed = Json::object();
  for (const auto& [key, value] : header.items()) {
    std::string other = key;
    const size_t at = key.find(part);
    if (at != std::string::npos) other.replace(at, part.size(), name);
    changed[other] = value;
  }
  header = changed;
}

TEST(Infer, RefusesByNameWhatItCannotPlace) {
  const std::string two = refusal("gqa", [](Json& header, std::string&) {
    rename(header, "k_proj", "alpha");
    rename(header, "v_proj", "beta");
  });
  EXPECT_TRUE(holds(two, "self_attn.alpha.weight [16, 32] (k or v)", "self_attn.beta.weight [16, 32] (k or v)"));
  const std::string more = refusal("gqa", [](Json& header, std::string& data) {
    for (const char* layer : {"0", "1"}) {
      header["model.layers." + std::string(layer) + ".mlp.router.weight"] = {
          {"dtype", "F32"}, {"shape", {4, 32}}, {"data_offsets", {data.size(), data.size() + 512}}};
      data += std::string(512, '\0');
    }
  });
  EXPECT_TRUE(holds(more, "shape of model.layers.*.mlp.router.weight [4, 32]", "by hand"));
  const std::string bare =
      refusal("gqa", [](Json& header, std::string&) { rename(header, "o_proj.weight", "o_proj"); });
  EXPECT_TRUE(holds(bare, "model.layers.0.self_attn.o_proj, model.layers.1.self_attn.o_proj", "no .weight"));
  EXPECT_TRUE(holds(refusal("nemotron", [](Json&, std::string&) {}), "input_layernorm.bias", "LayerNorm"));
  const std::string behind = refusal("qwen3", [](Json& header, std::string&) {
    rename(header, "post_attention_layernorm", "post_feedforward_layernorm");
    rename(header, "input_layernorm", "post_attention_layernorm");
  });
  EXPECT_TRUE(holds(behind, "what is what of model.layers.*.post_feedforward_layernorm.weight [24]", "by hand"));
  const std::string numbered = refusal("gqa", [](Json& header, std::string&) {
    rename(header, "up_proj", "w1");
    rename(header, "gate_proj", "w2");
  });
  EXPECT_TRUE(holds(numbered, "mlp.w1.weight [28, 32] (gate or up)", "mlp.w2.weight [28, 32] (gate or up)"));
  const std::string without = refusal("gqa", [](Json& header, std::string&) {
    rename(header, "input_layernorm.weight", "rotary_emb.inv_freq");  // which nothing looks at
  });
  EXPECT_TRUE(holds(without, "no tensor for attention_norm, which every model here has"));
}

TEST(Infer, SaysWhatItAssumesOfLogitsScalingWhereThatIsThere) {
  const auto assumed = [](const std::string& golden) {
    const ScratchFolder scratch;
    write_changed("tests/goldens/models/" + golden, scratch.path(), [](Json&, std::string&) {});
    return infer_family(ModelFiles(scratch.path()), scratch / "config.json").assumed;
  };
  EXPECT_TRUE(holds(assumed("granite"), "gate, up; the logits are divided by logits_scaling, not multiplied"));
  EXPECT_FALSE(holds(assumed("gqa"), "logits"));
}

// Of a config.json what no option takes is named with a family from a file, inferred or written by hand, and with one
// that a checkpoint keeps; a listed family is known to need no more.
TEST(Family, NamesTheKeysThatItDoesNotTake) {
  const ScratchFolder scratch;
  write_changed("tests/goldens/models/gqa", scratch.path(), [](Json&, std::string&) {});
  const std::string file = scratch / "config.json";
  Json config = read_json(file);
  config.update({{"attn_logit_softcapping", 50.0},
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
                    "mine.json: option norm_epsilom is none; docs/families.md shows them"));
}

// A family file of a person is refused with what is wrong in it.
TEST(Family, AFileThatIsNoneIsRefused) {
  const auto refused = [](const std::string& text) { return error_of([&] { parse_family(text, "mine.json"); }); };
  EXPECT_TRUE(holds(refused("[]"), "mine.json: not a JSON object"));
  EXPECT_TRUE(holds(refused("{\"model_type\": \"llama\"}"), "mine.json: has no \"family\""));
  EXPECT_TRUE(holds(refused("{}"), "mine.json: ", "family"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "y"})"), "mine.json: like \"y\"", "phi3"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "modules": [{"part": "wheel", "name": "a", "style": "colwise"}]})"),
                    "mine.json: modules[0]: part is wheel"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "option": {}})"), "mine.json: key \"option\" is none"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "modules": {}})"), "mine.json: modules is no array"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "options": []})"), "mine.json: options is no object"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": "llama", "only": []})"), "mine.json: only is no object"));
  EXPECT_TRUE(
      holds(refused(R"({"family": "x", "like": "llama", "only": {"a": true}})"), "mine.json: only \"a\" is no array"));
  EXPECT_TRUE(
      holds(refused(R"({"family": "x", "like": "llama", "modules": [{"part": [], "name": "a", "style": "b"}]})"),
            "mine.json: modules[0]: part is an empty array"));
  EXPECT_TRUE(holds(
      refused(R"({"family": "x", "like": "llama", "modules": [{"part": "q", "name": "a", "style": "b", "bias": 1}]})"),
      "mine.json: modules[0]: key \"bias\" is none"));
  EXPECT_TRUE(holds(refused(R"({"family": 5})"), "mine.json: family is missing or no string"));
  EXPECT_TRUE(holds(refused(R"({"family": "x", "like": 7})"), "mine.json: like is missing or no string"));
  EXPECT_TRUE(
      holds(refused(R"({"family": "x", "model_types": [7]})"), "mine.json: model_types holds more than strings"));
  const auto refused_module = [&](const char* module) {
    const std::string first = R"({"part": "k", "name": null}, )";
    return refused(R"({"family": "x", "like": "llama", "modules": [)" + first + module + "]}");
  };
  EXPECT_TRUE(holds(refused_module("\"q\""), "mine.json: modules[1]: not a JSON object"));
  EXPECT_TRUE(holds(refused_module(R"({"part": 5, "name": "a", "style": "b"})"), "modules[1]: part is missing or no"));
  EXPECT_TRUE(holds(refused_module(R"({"part": "q", "name": 7, "style": "b"})"), "modules[1]: name is missing or no"));
  EXPECT_TRUE(holds(refused_module(R"({"part": "q", "name": "a"})"), "modules[1]: style is missing or no string"));
  const Json base{{"family", "x"}, {"like", "unlisted"}};
  const auto with = [&](const Json& more) {
    Json family = base;
    family.update(more);
    return error_of([&] {
      resolve_plan(read_model_config("tests/goldens/models/gqa/config.json", parse_family(family.dump(), "mine.json")));
    });
  };
  EXPECT_TRUE(holds(with({{"options", {{"wheels", 4}}}}), "option wheels is none"));
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
    return error_of([&] { check_tensors(ModelFiles(golden), read, Parameters(read, resolve_plan(read), 0, 1)); });
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
