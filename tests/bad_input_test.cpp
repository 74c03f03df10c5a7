// Wrong configs, data and tokenizers are refused in one line that names the file, and the key or the line in it.
#include <gtest/gtest.h>

#include <filesystem>

#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/sound_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

class BadInput : public SoundModel {};

// ---- config.json

TEST_F(BadInput, ValuesOfTheConfigAreRefusedByTheirKey) {
  const std::string file = path("bad.json");
  const auto refuse = [&](const Json& changes, const Words& words, int ranks = 0) {
    write_file(file, small_config(changes).dump());
    Words all = words;
    all.push_back(file + ": ");
    expect_refused(ranks, "inspect --config " + file, all);
  };
  const Json huge = int64_t{1} << 40, too_huge = UINT64_MAX;
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "head_dim", "max_position_embeddings"})
    for (const Json& value :
         {Json(0), Json(-1), Json(1.5), Json("8"), Json(true), Json(Json::array({8})), huge, too_huge, Json(1e300)})
      refuse({{key, value}}, {std::string(key) + " is ", "it must "});
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"})
    refuse({{key, nullptr}}, {std::string(key) + " is missing"});
  for (const char* key : {"rms_norm_eps", "rope_theta", "initializer_range"})
    for (const Json& value : {Json(0), Json(-1e-5), Json(1e300), Json(1e-300), Json("1"), Json(Json::object())})
      refuse({{key, value}}, {std::string(key) + " is ", "it must "});
  for (const char* key : {"tie_word_embeddings", "attention_bias", "mlp_bias"})
    refuse({{key, "no"}}, {key, "true or false"});
  for (const char* key : {"eos_token_id", "bos_token_id", "pad_token_id"})
    for (const Json& value : {Json("0"), Json(0.5)}) refuse({{key, value}}, {key});
  for (const Json& value : {Json(small_vocabulary), Json(-2), too_huge})
    refuse({{"pad_token_id", value}}, {"pad_token_id", "outside of the vocabulary"});
  refuse({{"model_type", "mamba"}}, {"model_type \"mamba\"", "known: "}, 2);
  refuse({{"model_type", nullptr}}, {"model_type"});
  refuse({{"model_type", 3}}, {"model_type"});
  refuse({{"hidden_act", "selu"}}, {"hidden_act \"selu\"", "known: silu"}, 4);
  refuse({{"hidden_act", 3}}, {"hidden_act is 3"});
  refuse({{"torch_dtype", "float8"}}, {"torch_dtype", "float8", "float32"});
  refuse({{"num_key_value_heads", 3}}, {"num_key_value_heads (3)", "num_attention_heads (8)"});
  refuse({{"num_attention_heads", 5}, {"num_key_value_heads", 5}},
         {"num_attention_heads (5)", "hidden_size (32)", "head_dim"});
  refuse({{"head_dim", 3}}, {"head_dim (3)", "even"});
  refuse({{"hidden_size", 1 << 24}, {"intermediate_size", 1 << 24}}, {"parameters; check"});
  refuse({{"rope_scaling", 3}}, {"rope_scaling is 3"});
  refuse({{"rope_scaling", {{"rope_type", "ntk"}, {"factor", 2}}}}, {"rope_scaling.rope_type \"ntk\"", "known: "});
  refuse({{"rope_scaling", {{"rope_type", "linear"}}}}, {"rope_scaling.factor is missing"});
  refuse({{"rope_scaling", {{"type", "linear"}, {"factor", 0.5}}}}, {"rope_scaling.factor is 0.5"});
  refuse({{"rope_parameters", {{"sliding_attention", {{"rope_theta", 1e4}}}}}}, {"rope_parameters.sliding_attention"});
  refuse({{"tp_plan", 3}}, {"tp_plan"});
  refuse({{"tp_plan", {{"layers.*.mlp.gate_prox", "colwise"}}}},
         {"tp_plan[\"layers.*.mlp.gate_prox\"]", "matches no module"});
  refuse({{"tp_plan", {{"layers.*.mlp.down_proj", "colwise"}}}}, {"layers.*.mlp.down_proj", "can be rowwise"});
  refuse({{"tp_plan", {{"layers.0.mlp.down_proj", "replicated"}}}}, {"model.layers.0.mlp", "split together"});
}

TEST_F(BadInput, AConfigThatIsNoneIsNamed) {
  const std::string file = path("bad.json");
  for (const std::string content : {"", "{", "[1]", "3", "{\"vocab_size\": \"\xff\"}", "\x93NUMPY"}) {
    write_file(file, content);
    expect_refused(0, "inspect --config " + file, {file, "not a JSON object"});
  }
  expect_refused(0, "inspect --config " + path("sound"), {path("sound"), "is a folder"});
  expect_refused(2, "inspect --config " + path("none.json"), {path("none.json"), "no such file"});
  const auto as_folder = [](const std::string& folder) {
    fs::remove(folder + "/config.json");
    fs::create_directory(folder + "/config.json");
  };
  expect_refused(4, eval(damaged(as_folder)), {path("model"), "config.json"});
}

TEST_F(BadInput, WhatOfTheConfigIsLeftOutIsNamedByEveryCommand) {
  const std::string model = damaged([](const std::string& folder) {
    Json config = Json::parse(whole_file(folder + "/config.json"));
    config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2.0}, {"attn_factor", 0.8}};
    config["eos_token_id"] = small_vocabulary;
    write_file(folder + "/config.json", config.dump());
  });
  const std::string train =
      "train --max-steps 1 --model " + model + " --train-file " + path("ids.jsonl") + " --output-dir " + path("named");
  for (const std::string& command : {eval(model), "generate -n 1 -p Hello -m " + model, "inspect -m " + model,
                                     "inspect --json -m " + model, train}) {
    const CommandResult result = run_command(llama_tp_with(2) + " " + command);
    const std::string said = command == train ? result.out : result.err;  // the others print results alone
    EXPECT_EQ(result.status, 0) << result.err;
    for (const std::string line : {": not understood and left out: rope_scaling.attn_factor;",
                                   ": left out, as outside of the vocabulary of 496: eos_token_id 496"}) {
      EXPECT_TRUE(holds(said, model + "/config.json" + line)) << command;
      EXPECT_EQ(said.find(line), said.rfind(line)) << command;
    }
  }
}

// ---- data and tokenizers

TEST_F(BadInput, DataIsRefusedByLine) {
  const struct {
    const char* name;
    std::string content;
    Words words;
  } files[] = {
      {"d.txt", "", {"is empty"}},
      {"d.jsonl", "", {"is empty"}},
      {"d.jsonl", "\n\n", {"none to predict"}},
      {"d.txt", "Hello\nyou\xff\n", {"line 2", "byte 4", "UTF-8"}},
      {"d.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xc3\x28\"}\n", {"line 2", "UTF-8"}},
      {"d.jsonl", "{\"text\": \"Hello\"}\n{\"text\": \n", {"line 2", "not JSON"}},
      {"d.jsonl", "{\"text\": 3}", {"line 1", "text is 3"}},
      {"d.jsonl", "{\"words\": \"x\"}", {"line 1", "has no text, messages, prompt"}},
      {"d.jsonl", "[1, 2]", {"line 1", "object"}},
      {"d.jsonl", "{\"text\": \"\"}", {"none to predict"}},
      {"d.jsonl", "{\"input_ids\": []}", {"line 1", "input_ids is empty"}},
      {"d.jsonl", "{\"input_ids\": [1]}", {"none to predict"}},
      {"d.jsonl", "{\"input_ids\": [1, 496]}", {"line 1", "input_ids[1] is 496", "0 to 495"}},
      {"d.jsonl", "{\"input_ids\": [1, -1]}", {"line 1", "input_ids[1] is -1"}},
      {"d.jsonl", "{\"input_ids\": [1, 2.5]}", {"line 1", "input_ids[1] is 2.5"}},
      {"d.jsonl", "{\"input_ids\": [1, 99999999999999999999]}", {"line 1", "input_ids[1]"}},
      {"d.jsonl", "{\"input_ids\": \"1\"}", {"line 1", "input_ids is \"1\""}},
      {"d.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1]}", {"line 1", "1 labels for 2 input_ids"}},
      {"d.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, -100]}", {"none to predict"}},
      {"d.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, -1]}", {"line 1", "labels[1] is -1", "-100"}},
      {"d.jsonl", "{\"input_ids\": [1, 2]}\n{\"text\": \"x\"}", {"line 2"}},
      {"d.csv", "a,b", {".txt and .jsonl"}},
  };
  for (size_t i = 0; i < std::size(files); i++) {
    const std::string file = path(files[i].name);
    write_file(file, files[i].content);
    Words words = files[i].words;
    words.push_back(file + ": ");
    expect_refused(i % 7 == 3 ? 2 : 0, "eval -m " + path("sound") + " --file " + file, words);
  }
  fs::create_directory(path("folder.jsonl"));
  expect_refused(0, "eval -m " + path("sound") + " --file " + path("folder.jsonl"),
                 {path("folder.jsonl"), "is a folder"});
  expect_refused(4, "eval -m " + path("sound") + " --file " + path("none.jsonl"), {path("none.jsonl"), "no such file"});
}

TEST_F(BadInput, TokenizersThatDoNotFitAreNamed) {
  const Json few_tokens{{"vocab_size", 400}, {"bos_token_id", 1}, {"eos_token_id", 2}};
  write_file(path("words.jsonl"), demo_lines(2));
  write_file(path("small.json"), small_config(few_tokens).dump());
  const auto train = [](const std::string& tokenizer) {
    return "train --config " + path("small.json") + " --train-file " + path("words.jsonl") + " --output-dir " +
           path("unused") + tokenizer;
  };
  for (const int ranks : {0, 2})
    expect_refused(ranks, train(" --tokenizer " + small_tokenizer()),
                   {small_tokenizer(), "484", "small.json", "vocab_size 400"});
  expect_refused(0, train(""), {"words.jsonl", "--tokenizer"});
  expect_refused(0, train(" --tokenizer " + path("nowhere")), {path("nowhere"), "no such file or folder"});
  expect_refused(0, train(" --tokenizer " + path("words.jsonl")), {path("words.jsonl"), ".json or .model"});
  EXPECT_TRUE(checkpoint_steps(path("unused")).empty());

  const auto cut = [](const std::string& folder) { fs::resize_file(folder + "/tokenizer.json", 5000); };
  expect_refused(2, "generate -p Hello -m " + damaged(cut), {path("model/tokenizer.json"), "not valid JSON"});
  const auto remove = [](const std::string& folder) { fs::remove(folder + "/tokenizer.json"); };
  expect_refused(0, "generate -p Hello -m " + damaged(remove),
                 {path("model"), "neither tokenizer.json nor tokenizer.model"});
  const auto shrink = [&](const std::string& folder) {
    write_file(folder + "/config.json", small_config(few_tokens).dump());
  };
  expect_refused(4, "generate -p Hello -m " + damaged(shrink), {path("model"), "484", "vocab_size 400"});
  expect_refused(0, "tokenize -p Hello -m " + path("ids.jsonl"), {path("ids.jsonl")});
}

#if !defined(__SANITIZE_ADDRESS__)  // its shadow memory alone is more than the limit
TEST_F(BadInput, ATextThatCannotBeCutAndIsTooLargeForMemoryIsNamedAsSuch) {
  const std::string model = "tests/goldens/tokenizers/model_llama2/tokenizer.model";
  write_file(path("one_word.txt"), std::string(20'000'000, 'a'));
  const CommandResult result =
      run_command("ulimit -v 500000; " + llama_tp_with(0) + " tokenize -m " + model + " -f " + path("one_word.txt"));
  expect_refusal(result, {model, "out of memory for 20000000 bytes", "shorter texts", "tokenizer.json"}, true);
}
#endif

}  // namespace
}  // namespace llama_tp
