// inspect --infer on the goldens with other names: the family found puts every tensor where the golden's own family
// does, and is that of what is trained with it; what it cannot know it refuses by name.
#include "model/infer_family.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "io/files.h"
#include "model/parameters.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"

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
  const Parameters table(config, 0, 1);
  Places all;
  for (const Parameter& row : table.rows()) all[{row.weight->name, row.weight_row}] = {row.name, row.file_row};
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

// Its words are those of modules that are not known yet, as the family is looked for.
TEST(Infer, ATpPlanGoesByTheNamesThatAreFound) {
  std::mt19937 random(4);
  const Names names = random_names(random);
  const ScratchFolder scratch;
  write_renamed("gqa", names, scratch.path());
  const std::string file = scratch / "config.json";
  Json config = read_json(file);
  for (const char* part : {"q_proj", "k_proj", "v_proj", "o_proj"})
    config["tp_plan"][names.at(std::string("model.layers.*.self_attn.") + part)] = "replicated";
  write_text(file, config.dump());
  const InferredFamily found = infer_family(ModelFiles(scratch.path()), file);
  const TensorParallelPlan plan = read_model_config(file, parse_family(found.text, "found")).plan;
  for (const auto& layer : plan.layers) EXPECT_TRUE(!layer.attention && layer.mlp);
  config["tp_plan"] = {{"model.layers.*.mlp.gate_proj", "colwise"}};  // where only a known family has it
  write_text(file, config.dump());
  EXPECT_TRUE(holds(error_of([&] { infer_family(ModelFiles(scratch.path()), file); }),
                    "tp_plan[\"model.layers.*.mlp.gate_proj\"] matches no module"));
}

TEST(Infer, AMadeUpFamilyComputesWhatTheKnownOneDoes) {
  const std::string golden = "tests/goldens/models/qwen3", samples = " --file " + golden + "/input.jsonl --json";
  std::mt19937 random(2);
  const ScratchFolder scratch;
  write_renamed("qwen3", random_names(random), scratch.path());
  const std::string model = " -m " + scratch.path(), family = scratch / "family.json";
  const CommandResult inferred = run_command(llama_tp_with(2) + " inspect" + model + " --infer " + family);
  ASSERT_EQ(inferred.status, 0) << inferred.err;
  EXPECT_TRUE(holds(inferred.err, family + ": written; --family ", "not by 1 + w", "normed before they rotate",
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
  EXPECT_TRUE(holds(error_of([&] { read_model_config(config); }),
                    "config.json: llama_tp_family: holds JSON of type number; it must be an object"));
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

}  // namespace
}  // namespace llama_tp
