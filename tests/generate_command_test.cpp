// `llama_tp generate` as a user types it: the text on stdout and nothing else, the same on any number of ranks.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/utf8.h"
#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

// One small model for all tests, trained a little, so that its distribution is neither flat nor certain.
class GenerateCommand : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = std::make_unique<ScratchFolder>();
    write_file(*shared_ / "config.json", small_config({{"eos_token_id", nullptr}}).dump());
    write_file(*shared_ / "text.jsonl", demo_lines(12));
    const CommandResult result = run_command(
        llama_tp_with(0) + " train --config " + (*shared_ / "config.json") + " --tokenizer " + small_tokenizer() +
        " --train-file " + (*shared_ / "text.jsonl") +
        " --block-size 64 --max-steps 30 --learning-rate 1e-2 --dtype float32 --output-dir " + (*shared_ / "out"));
    ASSERT_EQ(result.status, 0) << result.err;
  }
  static void TearDownTestSuite() { shared_.reset(); }

  static std::string model() { return (*shared_ / "out"); }

  static CommandResult generate(int ranks, const std::string& options, const std::string& folder = model()) {
    const CommandResult result = run_command(llama_tp_with(ranks) + " generate -m " + folder + " " + options);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  }
  static std::string text_of(int ranks, const std::string& options, const std::string& folder = model()) {
    return generate(ranks, options, folder).out;
  }
  static std::vector<int> ids_of(const std::string& options) {
    const CommandResult result = run_command(llama_tp_with(0) + " tokenize -m " + small_tokenizer() + " " + options);
    std::vector<int> ids;
    std::istringstream words(result.out);
    for (int id = 0; words >> id;) ids.push_back(id);
    return ids;
  }

  static std::unique_ptr<ScratchFolder> shared_;
};

std::unique_ptr<ScratchFolder> GenerateCommand::shared_;

TEST_F(GenerateCommand, OneSeedGivesOneTextOnAnyNumberOfRanks) {
  const std::string options = "-p 'Once upon a time' -n 60 --ignore-eos --temp 1 --repeat-penalty 1.2 -s ";
  const std::string whole = text_of(0, options + "5");
  EXPECT_GT(whole.size(), 60u);
  EXPECT_EQ(text_of(0, options + "5"), whole);
  EXPECT_EQ(text_of(2, options + "5"), whole);
  EXPECT_EQ(text_of(4, options + "5"), whole);
  EXPECT_EQ(text_of(4, options + "5 --tensor-parallel 2"), whole);
  EXPECT_NE(text_of(0, options + "6"), whole);
}

TEST_F(GenerateCommand, ThreadsAreThoseOfTheOptionAndChangeNothing) {
  const std::string options = "-p 'Once upon a time' -n 20 --ignore-eos --temp 1 -s 5 ";
  const CommandResult one = generate(0, options);  // OMP_NUM_THREADS is 1 here
  EXPECT_TRUE(holds(one.err, "device  cpu: 1 thread,"));
  for (const int ranks : {0, 2}) {
    const CommandResult three = generate(ranks, options + "-t 3");
    EXPECT_TRUE(holds(three.err, "device  cpu: 3 threads,"));
    EXPECT_EQ(three.out, one.out);
  }
}

TEST_F(GenerateCommand, RanksThatDoTheSameWorkAreNamed) {
  const std::string options = "-p 'The cow' -n 5 --temp 0 ", allowed = "; this model's sizes allow 1, 2, 4 or 8\n";
  EXPECT_TRUE(holds(generate(3, options).err,
                    "tensor-parallel takes 1 of 3 ranks, the others do the same work again" + allowed));
  EXPECT_TRUE(holds(generate(4, options + "--tensor-parallel 2").err, "tensor-parallel takes 2 of 4 ranks", allowed));
  EXPECT_EQ(generate(2, options).err.find("same work"), std::string::npos);
}

TEST_F(GenerateCommand, TemperatureZeroIsGreedyWhateverTheSeed) {
  const std::string options = "-p 'The cow' -n 30 --ignore-eos ";
  const std::string greedy = text_of(0, options + "--temp 0 -s 1");
  EXPECT_EQ(text_of(2, options + "--temp 0 -s 2"), greedy);
  EXPECT_EQ(text_of(0, options + "--top-k 1 -s 3"), greedy);
  EXPECT_EQ(text_of(0, options + "--top_p 0 -s 4"), greedy);
}

// eval's logits of the prompt and of what was added so far, the largest of the last row taken each time: no cache.
std::vector<int> greedy_by_eval(std::vector<int> ids, int count, const std::string& model,
                                const ScratchFolder& folder) {
  std::vector<int> added;
  for (int i = 0; i < count; i++) {
    write_file(folder / "ids.jsonl", Json{{"input_ids", ids}}.dump() + "\n");
    run_command(llama_tp_with(0) + " eval -m " + model + " --file " + (folder / "ids.jsonl") + " --dump-logits " +
                folder / "logits");
    const StoredValues logits = read_dump(folder / "logits").at(0).logits;
    EXPECT_EQ(logits.shape, (std::vector<int64_t>{static_cast<int64_t>(ids.size()), small_vocabulary}));
    const auto row = logits.values.end() - small_vocabulary;
    added.push_back(static_cast<int>(std::max_element(row, logits.values.end()) - row));
    ids.push_back(added.back());
  }
  return added;
}

TEST_F(GenerateCommand, FollowsTheLogitsOfEvalAndStopsAtEos) {
  const ScratchFolder folder;
  const std::vector<int> prompt = ids_of("-p 'Good morning' --add-special-tokens");
  EXPECT_EQ(prompt.at(0), small_bos);  // BOS
  const std::vector<int> added = greedy_by_eval(prompt, 5, model(), folder);
  const auto decoded = [&](size_t count) {
    std::string ids;
    for (size_t i = 0; i < count; i++) ids += std::to_string(added[i]) + " ";
    return run_command(llama_tp_with(0) + " tokenize -m " + small_tokenizer() + " --decode -p '" + ids + "'").out;
  };
  EXPECT_EQ(text_of(0, "-p 'Good morning' -n 5 --temp 0 --ignore-eos"), decoded(5));

  // The same model, but a token that it comes to ends the text.
  size_t end = 1;
  while (end < added.size() && std::count(added.begin(), added.begin() + static_cast<int>(end), added[end]) > 0) end++;
  if (end == added.size()) end = 0;
  const std::string other = folder / "ends";
  std::filesystem::copy(model() + "/checkpoint-30", other);
  Json config = Json::parse(whole_file(other + "/config.json"));
  config["eos_token_id"] = {1, added[end]};
  write_file(other + "/config.json", config.dump());
  EXPECT_EQ(text_of(2, "-p 'Good morning' -n 5 --temp 0", other), decoded(end));
  EXPECT_EQ(text_of(0, "-p 'Good morning' -n 5 --temp 0 --ignore-eos", other), decoded(5));
}

TEST_F(GenerateCommand, PutsTheTextOnStdoutAndAllElseOnStderr) {
  for (const int ranks : {0, 2}) {
    const CommandResult plain = generate(ranks, "-p 'Hello' -n 8 -s 1 --ignore-eos");
    EXPECT_TRUE(holds(plain.err, "model   ", "tensor-parallel " + std::to_string(std::max(1, ranks)), "seed    1",
                      "prompt  5 tokens, ", "decode  7 tokens, ", " tokens/s\n"));
    EXPECT_EQ(plain.err.find("GB/s"), std::string::npos);  // caches hold this model
    EXPECT_EQ(generate(ranks, "-p 'Hello' -n 8 -s 1 --ignore-eos --echo").out, "Hello" + plain.out);
    EXPECT_EQ(plain.out.find('\r'), std::string::npos);
    EXPECT_EQ(plain.out.find("tokens/s"), std::string::npos);
    EXPECT_EQ(plain.out.back(), '\n');
  }
  EXPECT_EQ(text_of(0, "-p Hello -n 0 -s 1"), "\n");
  EXPECT_EQ(text_of(0, "-p Hello -n 0 -s 1 --echo"), "Hello\n");
}

TEST_F(GenerateCommand, AnEmptyPromptStartsFromBosAlone) {
  const CommandResult result = generate(2, "-p '' -n 12 -s 3 --echo --ignore-eos");
  EXPECT_TRUE(holds(result.err, "prompt  1 token, "));
  EXPECT_EQ(text_of(0, "-p '' -n 12 -s 3 --ignore-eos"), result.out);
  EXPECT_GT(result.out.size(), 12u);
}

TEST_F(GenerateCommand, ReadsThePromptFromAFile) {
  const ScratchFolder folder;
  const std::string prompt = "--a_b \"said\" Zoë\nand the cow";
  write_file(folder / "prompt", prompt);
  const std::string text = text_of(0, "-n 9 -s 1 --echo -f " + (folder / "prompt"));
  EXPECT_TRUE(text.starts_with(prompt)) << text;
  EXPECT_EQ(text_of(0, "-n 9 -s 1 --echo -p " + quoted(prompt)), text);
  EXPECT_EQ(text_of(0, "-n 9 -s 1 --echo -f <(cat " + (folder / "prompt") + ")"), text);
  for (const std::string& line : {prompt + "\n", prompt + "\r\n", "\xEF\xBB\xBF" + prompt}) {
    write_file(folder / "line", line);
    EXPECT_EQ(text_of(0, "-n 9 -s 1 --echo -f " + (folder / "line")), text);
  }
  write_file(folder / "lines", prompt + "\n\n");
  EXPECT_TRUE(text_of(0, "-n 9 -s 1 --echo -f " + (folder / "lines")).starts_with(prompt + "\n"));
  EXPECT_EQ(text_of(0, "-n 9 -s 1 --echo -f /dev/stdin < <(cat " + (folder / "prompt") + ")"), text);
}

// A flat distribution over a byte-level vocabulary: most characters are broken, and none may be cut.
TEST_F(GenerateCommand, NeverCutsACharacter) {
  const std::string text =
      text_of(2, "-p 'Ü' -n 200 -s 2 --temp 1000 --top-k 0 --top-p 1 --min-p 0 --ignore-eos --echo");
  EXPECT_EQ(utf8::first_invalid(text), text.size());
  EXPECT_NE(text.find("\xEF\xBF\xBD"), std::string::npos);
  EXPECT_TRUE(text.starts_with("Ü"));
}

// Llama 2's tokenizer spells these prompts' last characters in bytes, which it reads as one run with bytes that follow.
TEST_F(GenerateCommand, ThePromptsLastBytesAreNoGeneratedText) {
  const ScratchFolder folder;
  write_file(folder / "config.json", small_config({{"vocab_size", 680}}).dump());
  const CommandResult trained =
      run_command(llama_tp_with(0) + " train --config " + (folder / "config.json") +
                  " --tokenizer tests/goldens/tokenizers/llama2 --train-file " + (*shared_ / "text.jsonl") +
                  " --block-size 64 --max-steps 1 --output-dir " + (folder / "out"));
  ASSERT_EQ(trained.status, 0) << trained.err;
  for (const std::string prompt : {"Hello 🦙", "Hello 🦙🦙"}) {
    const std::string options = "-n 4 -s 1 --ignore-eos ", one = "-p " + quoted(prompt) + " ";
    const std::string text = text_of(0, options + one, folder / "out");
    EXPECT_EQ(text_of(0, options + one + "--echo", folder / "out"), prompt + text);
    EXPECT_EQ(text_of(0, one + "-n 0 --echo", folder / "out"), prompt + "\n");
    write_file(folder / "prompts.jsonl", Json{{"prompt", prompt}}.dump());
    const Json line =
        json_lines(text_of(0, options + "--prompts-file " + (folder / "prompts.jsonl"), folder / "out"))[0];
    EXPECT_EQ(line["text"].get<std::string>() + "\n", text);
  }
}

TEST_F(GenerateCommand, EndsWithTheContextAndSaysSo) {
  const CommandResult result = generate(0, "-p Hello -c 20 -s 1 --ignore-eos");
  EXPECT_TRUE(holds(result.err, "the context of 20 tokens is full; give a larger one with -c", "decode  15 tokens"));
  EXPECT_TRUE(holds(generate(0, "-p Hello -s 1 --ignore-eos").err, "the context of 256 tokens is full"));
  EXPECT_TRUE(
      holds(generate(0, "-p Hello -c 300 -n 2 -s 1").err, "context 300 is longer than the model's 256 positions"));
  EXPECT_TRUE(holds(generate(0, "-p Hello -c 5 -n 2 -s 1").err, "prompt  5 tokens"));
}

TEST_F(GenerateCommand, TheContextReachesAsFarAsTheScaling) {
  const ScratchFolder folder;
  for (const auto& file : std::filesystem::directory_iterator(model() + "/checkpoint-30"))
    if (file.is_regular_file()) std::filesystem::copy(file, folder.path());
  Json config = Json::parse(whole_file(folder / "config.json"));
  config["max_position_embeddings"] = 16;
  config["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
  write_file(folder / "config.json", config.dump());
  const auto said = [&](const std::string& options) {
    return generate(0, "-p Hello -s 1 --ignore-eos " + options, folder.path()).err;
  };
  EXPECT_TRUE(holds(said(""), "the context of 64 tokens is full"));
  EXPECT_FALSE(holds(said("-n 2 -c 64"), "is longer than the model's"));
  EXPECT_TRUE(holds(said("-n 2 -c 65"), "context 65 is longer than the model's 64 positions"));
  const auto trained = [&](int tokens) {
    write_file(folder / "ids.jsonl", random_id_lines(1, tokens, small_vocabulary));
    const CommandResult result =
        run_command(llama_tp_with(0) + " train --max-steps 1 --model " + folder.path() + " --train-file " +
                    (folder / "ids.jsonl") + " --output-dir " + (folder / ("out" + std::to_string(tokens))));
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const auto evaluated = [&] {  // the same samples
    const CommandResult result =
        run_command(llama_tp_with(0) + " eval -m " + folder.path() + " --file " + (folder / "ids.jsonl"));
    EXPECT_EQ(result.status, 0) << result.err;
    return result.err;
  };
  EXPECT_FALSE(holds(trained(64), "are longer than the model's"));
  EXPECT_FALSE(holds(evaluated(), "are longer than the model's"));
  EXPECT_TRUE(holds(trained(70), "samples of 70 tokens are longer than the model's 64 positions"));
  EXPECT_TRUE(holds(evaluated(), "samples of 70 tokens are longer than the model's 64 positions\n"));
}

TEST_F(GenerateCommand, WithoutNThereIsRoomForAPageBehindAnyPrompt) {
  const std::string folder = *shared_ / "long";
  std::filesystem::copy(model() + "/checkpoint-30", folder);
  Json config = Json::parse(whole_file(folder + "/config.json"));
  config["max_position_embeddings"] = 100000;
  write_file(folder + "/config.json", config.dump());
  std::string prompt;
  for (int i = 0; i < 2200; i++) prompt += "4 ";  // two tokens each
  write_file(folder + "/prompt", prompt);
  write_file(folder + "/prompts.jsonl", Json{{"prompt", prompt}}.dump());
  const auto context_of = [&](const std::string& options) {
    const std::string err = generate(0, options + " --temp 0", folder).err;
    EXPECT_TRUE(holds(err, " keys and values of "));
    return std::stoi(err.substr(err.find(" keys and values of ") + 20));
  };
  // The first token ends it: the most likely one is made the end.
  const int first =
      json_lines(generate(0, "-f " + folder + "/prompt -n 1 --logprobs --temp 0 --ignore-eos", folder).out)
          .at(0)["ids"][0];
  config["eos_token_id"] = first;
  write_file(folder + "/config.json", config.dump());
  const int prompt_tokens = context_of("-f " + folder + "/prompt -n 0");
  EXPECT_GE(prompt_tokens, 4400);
  EXPECT_EQ(context_of("-f " + folder + "/prompt"), prompt_tokens + 4096);
  EXPECT_EQ(context_of("--prompts-file " + folder + "/prompts.jsonl"), prompt_tokens + 4096);
}

// As of folders whose tokenizer has a <pad> beyond the model's rows, which no text contains.
TEST_F(GenerateCommand, AnAddedTokenNeedsNoRowUntilATextHoldsIt) {
  const ScratchFolder folder;
  for (const auto& file : std::filesystem::directory_iterator(model() + "/checkpoint-30"))
    if (file.is_regular_file()) std::filesystem::copy(file, folder.path());
  const int64_t rows = Json::parse(whole_file(folder / "config.json"))["vocab_size"];
  Json added;
  for (int64_t id = load_tokenizer(folder.path())->vocabulary_size(); id <= rows; id++) added[text("<", id, ">")] = id;
  write_file(folder / "added_tokens.json", added.dump());
  generate(0, "-p 'Hello' -n 2 -s 1", folder.path());
  for (const int ranks : {0, 2})
    expect_refused(ranks, text("generate -m ", folder.path(), " -n 2 -s 1 -p 'Hello<", rows, ">'"),
                   {text("-p: the tokenizer gives id ", rows), text("ids 0 to ", rows - 1), "leave out"});
  const std::string text_of_it = text("Hello<", rows, ">");
  write_file(folder / "prompts.jsonl",
             Json{{"prompt", "Hello"}}.dump() + "\n" + Json{{"prompt", text_of_it}}.dump() + "\n");
  expect_refused(0, text("generate -m ", folder.path(), " --prompts-file ", folder / "prompts.jsonl"),
                 {folder / "prompts.jsonl" + ": line 2", text("gives id ", rows)});
  write_file(folder / "texts.jsonl", Json{{"text", text_of_it}}.dump());
  expect_refused(0, text("eval -m ", folder.path(), " --file ", folder / "texts.jsonl"),
                 {text("id ", rows), text("ids 0 to ", rows - 1), "leave out"});
}

TEST_F(GenerateCommand, DrawsASeedAndSaysIt) {
  const CommandResult first = generate(2, "-p Hello -n 20 --temp 2 --ignore-eos");
  const size_t at = first.err.find("seed    ");
  ASSERT_NE(at, std::string::npos);
  const std::string seed = first.err.substr(at + 8, first.err.find('\n', at) - at - 8);
  EXPECT_EQ(text_of(0, "-p Hello -n 20 --temp 2 --ignore-eos -s " + seed), first.out);
}

TEST_F(GenerateCommand, TakesTheNewestCheckpointOfAnOutputFolder) {
  const ScratchFolder folder;
  for (const char* step : {"9", "10"})
    std::filesystem::create_directories(folder / ("checkpoint-" + std::string(step)));
  std::filesystem::create_directories(folder / "checkpoint-11.partial");
  for (const auto& file : std::filesystem::directory_iterator(model() + "/checkpoint-30"))
    std::filesystem::copy(file, folder / "checkpoint-10");
  EXPECT_TRUE(
      holds(generate(2, "-p Hello -n 2 -s 1", folder.path() + "/").err, "model   " + folder / "checkpoint-10: "));
}

TEST_F(GenerateCommand, RunsInBfloat16) {
  const CommandResult result = generate(2, "-p 'Once' -n 10 --temp 0 --dtype bfloat16 --echo");
  EXPECT_TRUE(holds(result.err, "parameters in bfloat16"));
  EXPECT_TRUE(result.out.starts_with("Once"));
}

}  // namespace
}  // namespace llama_tp
