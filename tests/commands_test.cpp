// eval, inspect and tokenize as a user types them, and what all commands share.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <map>

#include "io/files.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

CommandResult run(int ranks, const std::string& arguments) {
  const CommandResult result = run_command(llama_tp_with(ranks) + " " + arguments);
  EXPECT_EQ(result.status, 0) << result.err;
  return result;
}

std::string output_of(const std::string& arguments) { return run(0, arguments).out; }

// ---- what all share

TEST(Commands, HelpShowsAnExampleAndIsPrintedOnce) {
  for (const std::string command : {"train", "generate", "eval", "inspect", "tokenize", "bench"}) {
    const CommandResult help = run(0, command + " --help");
    EXPECT_TRUE(holds(help.out, "\n  $ ", "./llama_tp " + command + " -", "--help", "Usage:")) << help.out;
    EXPECT_EQ(help.err, "");
    EXPECT_EQ(run(0, command + " -h").out, help.out);
    EXPECT_TRUE(holds(output_of("--help"), "  " + command + " "));
  }
  EXPECT_EQ(run(2, "train --help").out, output_of("train --help"));
  EXPECT_TRUE(holds(output_of("train --help"), "--resume-from-checkpoint [latest|DIR]"));
  EXPECT_EQ(run(2, "--help").out, output_of("--help"));
  EXPECT_EQ(run(2, "tokenize --help").out, output_of("tokenize --help"));
}

TEST(Commands, NoCommandIsAnErrorThatLeadsOn) {
  const CommandResult result = run_command(llama_tp_with(0));
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, output_of("--help"));
}

// ---- eval

double loss_of(const CommandResult& result) { return Json::parse(result.out).at("loss"); }

// Goldens by transformers, through the program.
TEST(EvalCommand, GivesTransformersLossOnAnyNumberOfRanks) {
  for (const std::string name : {"gqa", "mqa_tied", "kv_replicated", "biases", "rope_dynamic", "rope_llama3"}) {
    const std::string folder = "tests/goldens/models/" + name;
    const Json about = Json::parse(whole_file(folder + "/about.json"));
    for (const int ranks : {0, 2, 4}) {
      const CommandResult result = run(ranks, "eval -m " + folder + " --file " + folder + "/input.jsonl --json");
      const Json said = Json::parse(result.out);
      EXPECT_EQ(said.size(), 3u);
      EXPECT_EQ(said["tokens"], about["targets"]);
      EXPECT_NEAR(said["loss"], about["loss"], 1e-5) << name << " with " << ranks << " ranks";
      EXPECT_NEAR(said["perplexity"], std::exp(double(said["loss"])), 1e-9 * double(said["perplexity"]));
    }
  }
}

TEST(EvalCommand, RunsInBothTypesAndForPeople) {
  const std::string options = "eval -m tests/goldens/models/gqa --file tests/goldens/models/gqa/input.jsonl ";
  const double exact = loss_of(run(0, options + "--json"));
  // bf16 has 8 bits: a logit of a few dozen may move by a tenth, a mean of 37 of them by less.
  EXPECT_NEAR(loss_of(run(2, options + "--json --dtype bfloat16")), exact, 0.1);
  EXPECT_NE(loss_of(run(0, options + "--json --dtype bfloat16")), exact);
  EXPECT_TRUE(holds(output_of(options), "loss 9.33", "  perplexity ", "  over 37 tokens\n"));
}

// Logits of a model that is all too sure.
TEST(EvalCommand, APerplexityBeyondADoubleIsNull) {
  const ScratchFolder folder;
  const std::string golden = "tests/goldens/models/granite";
  std::filesystem::copy(golden, folder.path() + "/model");
  Json config = Json::parse(whole_file(golden + "/config.json"));
  config["logits_scaling"] = 1e-5;
  write_file(folder / "model/config.json", config.dump());
  const std::string options = "eval -m " + (folder / "model") + " --file " + golden + "/input.jsonl ";
  const Json said = Json::parse(output_of(options + "--json"));
  EXPECT_GT(said["loss"], 710);
  EXPECT_TRUE(said["perplexity"].is_null());
  EXPECT_TRUE(holds(output_of(options), "  perplexity inf  "));
}

// Before weights are read: here there are none.
TEST(EvalCommand, RefusesADumpOfMoreSamplesThanAFileCanName) {
  const ScratchFolder folder;
  write_file(folder / "config.json", whole_file("tests/goldens/models/kv_replicated/config.json"));
  std::string lines;
  for (int i = 0; i < 1'300'000; i++) lines += "{\"input_ids\": [1, 2]}\n";
  write_file(folder / "ids.jsonl", lines);
  const CommandResult result = run_command(llama_tp_with(0) + " eval -m " + folder.path() + " --file " +
                                           (folder / "ids.jsonl") + " --dump-logits " + (folder / "logits"));
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.errors().size(), 1u);
  EXPECT_TRUE(holds(result.err, "llama_tp: logits: its header, of 2600000 tensors, would take ", "take fewer"));
  EXPECT_FALSE(file_exists(folder / "logits"));
}

// The loss is the mean of -log softmax over the logits that --dump-logits writes.
TEST(EvalCommand, DumpsTheLogitsThatMakeItsLoss) {
  const ScratchFolder folder;
  const std::string file = folder / "ids.jsonl";
  write_file(file, "{\"input_ids\": [1, 2, 3, 4, 5, 6]}\n{\"input_ids\": [9, 8, 7], \"labels\": [-100, -100, 50]}\n");
  std::map<int, std::vector<DumpedSample>> dumped;
  for (const int ranks : {0, 2, 4}) {
    const std::string dump = folder / "logits";
    const CommandResult result =
        run(ranks, "eval --json -m tests/goldens/models/kv_replicated --file " + file + " --dump-logits " + dump);
    dumped[ranks] = read_dump(dump);
    const auto& samples = dumped[ranks];
    ASSERT_EQ(samples.size(), 2u);
    EXPECT_EQ(samples[0].ids, (std::vector<int32_t>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(samples[1].ids, (std::vector<int32_t>{9, 8, 7}));
    const int64_t vocabulary = samples[0].logits.shape.at(1);
    EXPECT_EQ(samples[0].logits.shape, (std::vector<int64_t>{6, vocabulary}));
    EXPECT_EQ(samples[1].logits.shape, (std::vector<int64_t>{3, vocabulary}));
    const std::vector<std::array<int, 3>> targets{{0, 0, 2}, {0, 1, 3}, {0, 2, 4}, {0, 3, 5}, {0, 4, 6}, {1, 1, 50}};
    double sum = 0;
    for (const auto& [sample, position, id] : targets) {
      const float* row = samples[static_cast<size_t>(sample)].logits.values.data() + position * vocabulary;
      double normalizer = 0;
      for (int64_t i = 0; i < vocabulary; i++) normalizer += std::exp(double(row[i]));
      sum += std::log(normalizer) - double(row[id]);
    }
    EXPECT_EQ(Json::parse(result.out)["tokens"], 6);
    EXPECT_NEAR(loss_of(result), sum / 6, 1e-5);
    for (size_t i = 0; i < samples[0].logits.values.size(); i++)
      ASSERT_NEAR(samples[0].logits.values[i], dumped[0][0].logits.values[i], 1e-4);
  }
}

// Ranks with data of their own divide the samples, also where some have none in the last round.
TEST(EvalCommand, SaysTheSameOnEveryMesh) {
  const ScratchFolder folder;
  write_file(folder / "config.json", small_config().dump());
  write_file(folder / "ids.jsonl", random_id_lines(23, 700, small_vocabulary));
  run(0, "train --max-steps 1 --dtype float32 --config " + (folder / "config.json") + " --train-file " +
             (folder / "ids.jsonl") + " --output-dir " + (folder / "out"));
  const std::string eval = "eval --json -m " + (folder / "out") + " --file " + (folder / "ids.jsonl");
  const Json alone = Json::parse(output_of(eval));
  for (const auto& [ranks, mesh] : std::vector<std::pair<int, std::string>>{{2, " --data-parallel 2"},
                                                                            {2, " --fsdp 2"},
                                                                            {4, " --fsdp 2 --tensor-parallel 2"},
                                                                            {4, " --fsdp 2 --data-parallel 2"}}) {
    const Json other = Json::parse(run(ranks, eval + mesh).out);
    EXPECT_EQ(other["tokens"], alone["tokens"]) << mesh;
    EXPECT_NEAR(other["loss"], alone["loss"], 1e-6 * double(alone["loss"])) << mesh;
  }
}

// Text is joined with EOS and packed: the same as a file of ids that was packed by hand.
TEST(EvalCommand, PacksTextsWithEosBetweenThem) {
  const ScratchFolder folder;
  write_file(folder / "config.json", small_config().dump());
  write_file(folder / "text.jsonl", demo_lines(3));
  run(0, "train --max-steps 1 --dtype float32 --config " + (folder / "config.json") + " --tokenizer " +
             small_tokenizer() + " --train-file " + (folder / "text.jsonl") + " --output-dir " + (folder / "out"));
  write_file(folder / "texts", demo_texts(3));
  std::vector<int> ids;
  for (const Json& document :
       json_lines(output_of("tokenize --jsonl -m " + small_tokenizer() + " -f " + (folder / "texts")))) {
    for (const int id : document) ids.push_back(id);
    ids.push_back(small_eos);
  }
  std::string packed;
  int targets = 0;
  for (size_t at = 0; at < ids.size(); at += 50) {
    const size_t end = std::min(ids.size(), at + 50);
    packed += Json{{"input_ids", std::vector<int>(ids.begin() + int(at), ids.begin() + int(end))}}.dump() + "\n";
    targets += int(end - at) - 1;
  }
  write_file(folder / "packed.jsonl", packed);
  const std::string options = "eval --json --block-size 50 -m " + (folder / "out") + " --file ";
  const Json text = Json::parse(output_of(options + (folder / "text.jsonl")));
  EXPECT_EQ(text["tokens"], targets);
  EXPECT_NEAR(text["loss"], loss_of(run(0, options + (folder / "packed.jsonl"))), 1e-9);

  // A .txt is one document; what is cut is said on stderr.
  write_file(folder / "one.txt", std::string(json_lines(demo_lines(1))[0]["text"]));
  write_file(folder / "one.jsonl", demo_lines(1));
  EXPECT_EQ(output_of(options + (folder / "one.txt")), output_of(options + (folder / "one.jsonl")));
  write_file(folder / "long.jsonl", random_id_lines(2, 60, small_vocabulary));
  EXPECT_TRUE(holds(run(2, options + (folder / "long.jsonl")).err,
                    "long.jsonl: longer than --block-size 50 and cut: 2 samples, which lost 20 tokens"));
}

// ---- inspect

TEST(InspectCommand, SlicesOfAllRanksMakeUpEachTensor) {
  const ScratchFolder folder;
  write_file(folder / "config.json", small_config({{"vocab_size", 497}, {"num_key_value_heads", 2}}).dump());
  for (const int size : {1, 2, 4, 8}) {
    const Json table = Json::parse(output_of("inspect --json --tensor-parallel " + std::to_string(size) + " --config " +
                                             (folder / "config.json")));
    EXPECT_EQ(table["tensor_parallel"], size);
    for (const Json& row : table["parameters"]) {
      ASSERT_EQ(int(row["slices"].size()), size);
      if (row["axis"].is_null()) continue;
      const int64_t extent = row["shape"][size_t(row["axis"])];
      std::vector<int> held(static_cast<size_t>(extent), 0);
      for (const Json& slice : row["slices"])
        for (int64_t i = slice[0]; i < int64_t(slice[1]); i++) held[static_cast<size_t>(i)]++;
      for (const int times : held) ASSERT_EQ(times, row["replicas"]) << row;
    }
  }
}

TEST(InspectCommand, NamesWhatACheckpointHoldsWithTheStylesOfThePlan) {
  const std::string folder = "tests/goldens/models/biases";
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& [name, tensor] : read_tensors(folder + "/model.safetensors")) shapes[name] = tensor.shape;
  const Json table = Json::parse(output_of("inspect --json -m " + folder));
  ASSERT_EQ(table["parameters"].size(), shapes.size());
  for (const Json& row : table["parameters"]) EXPECT_EQ(row["shape"], shapes.at(row["name"])) << row;

  const std::string text = run(2, "inspect --tensor-parallel 2 --rank 1 -m " + folder).out;
  EXPECT_TRUE(holds(text, "slice of rank 1 of 2\n", "model.embed_tokens.weight ", "embedding_rowwise ",
                    "model.layers.{0-1}.mlp.down_proj.weight ", "rowwise ", "replicated ", " whole\n", "colwise ",
                    "[:, "));
  // Two layers alike: a line for both of each of their tensors.
  const auto of_layers = std::count_if(shapes.begin(), shapes.end(),
                                       [](const auto& one) { return one.first.find(".layers.") != std::string::npos; });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), static_cast<int64_t>(shapes.size()) - of_layers / 2 + 2);
}

TEST(InspectCommand, WritesLayersThatAreAlikeInOneLineAndOthersApart) {
  const ScratchFolder folder;
  const Json whole_mlp{{"layers.1.mlp.gate_proj", "replicated"},
                       {"layers.1.mlp.up_proj", "replicated"},
                       {"layers.1.mlp.down_proj", "replicated"}};
  write_file(folder / "config.json", small_config({{"num_hidden_layers", 4}, {"tp_plan", whole_mlp}}).dump());
  const std::string text = output_of("inspect --tensor-parallel 2 --config " + (folder / "config.json"));
  EXPECT_TRUE(holds(text, "model.layers.{0-3}.self_attn.q_proj.weight ", "model.layers.{0, 2-3}.mlp.up_proj.weight ",
                    "model.layers.1.mlp.up_proj.weight "))
      << text;
  EXPECT_FALSE(holds(text, "model.layers.0")) << text;
}

// ---- tokenize

TEST(TokenizeCommand, GivesHuggingFacesIdsAndTheTextBack) {
  const std::string folder = "tests/goldens/tokenizers/llama3";
  const ScratchFolder scratch;
  std::vector<Json> cases = json_lines(whole_file(folder + "/cases.jsonl"));
  std::erase_if(cases, [](const Json& one) { return !one.contains("text"); });  // some are ids alone
  ASSERT_GT(cases.size(), 30u);
  std::string texts, ids;
  for (const Json& one : cases) {
    texts += one["text"].dump() + "\n";
    ids += one["ids"].dump() + "\n";
  }
  write_file(scratch / "texts", texts);
  write_file(scratch / "ids", ids);
  const std::string tokenize = "tokenize --jsonl -m " + folder;
  const std::vector<Json> plain = json_lines(output_of(tokenize + " < " + (scratch / "texts"))),
                          framed = json_lines(
                              output_of(tokenize + "/tokenizer.json --add-special-tokens -f " + (scratch / "texts"))),
                          decoded = json_lines(output_of(tokenize + " --decode -f " + (scratch / "ids")));
  ASSERT_EQ(plain.size(), cases.size());
  ASSERT_EQ(framed.size(), cases.size());
  ASSERT_EQ(decoded.size(), cases.size());
  for (size_t i = 0; i < cases.size(); i++) {
    EXPECT_EQ(plain[i], cases[i]["ids"]) << cases[i]["text"];
    EXPECT_EQ(framed[i], cases[i]["framed"]) << cases[i]["text"];
    EXPECT_EQ(decoded[i], cases[i]["decoded"]);
  }
}

TEST(TokenizeCommand, TakesTextsFromAnywhere) {
  const ScratchFolder folder;
  write_file(folder / "two lines", "Hello you\nmy friend");
  const std::string tokenize = "tokenize -m " + small_tokenizer() + " ", one = output_of(tokenize + "-p 'Hello you'"),
                    two = output_of(tokenize + "-p 'my friend'");
  EXPECT_EQ(output_of(tokenize + "< '" + (folder / "two lines'")), one + two);
  const std::string whole = output_of(tokenize + "-f '" + (folder / "two lines'"));
  EXPECT_EQ(std::count(whole.begin(), whole.end(), '\n'), 1);
  EXPECT_EQ(output_of(tokenize + "--decode -p '" + whole + "'"), "Hello you\nmy friend\n");
  EXPECT_EQ(output_of(tokenize + "--add_special_tokens -p 'Hello you'"), "485 " + one);
  EXPECT_EQ(output_of(tokenize + "-p ''"), "\n");
  write_file(folder / "marked", "\xEF\xBB\xBFHello you");
  EXPECT_EQ(output_of(tokenize + "-f '" + (folder / "marked'")), one);
  write_file(folder / "zero", std::string("a\0b", 3));
  EXPECT_EQ(output_of(tokenize + "--decode -p \"$(" + llama_tp_with(0) + " " + tokenize + "-f '" + (folder / "zero'") +
                      ")\""),
            std::string("a\0b\n", 4));
  EXPECT_EQ(
      output_of(tokenize + "--decode -p \"$(" + llama_tp_with(0) + " " + tokenize + "-p '--a_b-c --max_steps')\""),
      "--a_b-c --max_steps\n");
  EXPECT_EQ(run(2, tokenize + "< '" + (folder / "two lines'")).out, one + two);
}

}  // namespace
}  // namespace llama_tp
