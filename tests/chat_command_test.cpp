// `llama_tp generate` with many prompts and as a conversation: each the same as the one text that it continues.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "scratch_folder.h"
#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/small_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

// The fine-tuning golden's model, trained until it has learned its conversations; for all tests.
class Talking : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    shared_ = std::make_unique<ScratchFolder>();
    train(path("out"), "");
  }
  static void train(const std::string& folder, const std::string& options) {
    const std::string golden = "tests/goldens/sft";
    run(llama_tp_with(0) + " train --model " + golden + " --train-file " + golden +
        "/messages.jsonl --learning-rate 1e-2 --max-steps 60 --dtype float32 --output-dir " + folder + " " + options);
  }
  static void TearDownTestSuite() { shared_.reset(); }

  static std::string path(const std::string& name) { return *shared_ / name; }
  static std::string command(int ranks, const std::string& options, const std::string& model = path("out")) {
    return llama_tp_with(ranks) + " generate -m " + model + " " + options;
  }
  static CommandResult run(const std::string& line) {
    const CommandResult result = run_command(line);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  }
  // What a person types, a line each, and the answers that come back.
  static CommandResult chat(int ranks, const std::string& typed, const std::string& options = "",
                            const std::string& model = path("out")) {
    write_file(path("typed"), typed);
    return run(command(ranks, "--chat --temp 0 " + options, model) + " < " + path("typed"));
  }
  static std::vector<Json> continued(int ranks, const std::string& lines, const std::string& options,
                                     const std::string& model = path("out")) {
    write_file(path("prompts.jsonl"), lines);
    return json_lines(run(command(ranks, "--prompts-file " + path("prompts.jsonl") + " " + options, model)).out);
  }
  // The likeliest to a first message.
  static std::string answer_to(const std::string& message) {
    const Json messages = Json::array({{{"role", "user"}, {"content", message}}});
    return continued(0, Json{{"messages", messages}}.dump(), "--temp 0 -n 30").at(0)["text"].get<std::string>();
  }
  // Every answer is the continuation of the conversation so far, rendered and read anew. in_front: what the template writes
  // in front of an answer, and the model before it.
  static void expect_turns_of_the_whole(const std::string& options, const std::string& model = path("out"),
                                        const std::string& in_front = "") {
    const std::vector<std::string> typed{"Hi", "Count to three.", "Where is the cat?", "And now?"};
    Json messages = Json::array({{{"role", "system"}, {"content", "Be brief."}}});
    std::string lines, expected;
    for (const std::string& line : typed) {
      messages.push_back({{"role", "user"}, {"content", line}});
      const Json whole = continued(0, Json{{"messages", messages}}.dump(), "--temp 0 -n 30 " + options, model).at(0);
      const auto answer = whole["text"].get<std::string>();
      ASSERT_TRUE(answer.starts_with(in_front)) << answer;
      messages.push_back({{"role", "assistant"}, {"content", answer.substr(in_front.size())}});
      lines += line + "\n";
      expected += answer + "\n";
    }
    lines += "/clear\n" + typed[0];
    expected += expected.substr(0, expected.find('\n') + 1);
    for (const int ranks : {0, 2, 4})
      EXPECT_EQ(chat(ranks, lines, "-n 30 --system 'Be brief.' " + options, model).out, expected) << ranks;
  }

  static std::unique_ptr<ScratchFolder> shared_;
};

std::unique_ptr<ScratchFolder> Talking::shared_;

std::string prompt_lines(int count) {
  std::string lines;
  for (int i = 0; i < count; i++)
    lines += Json{{"id", i},
                  {"prompt", "The " + std::string(static_cast<size_t>(i * 5 % 13), 'a') + " cow" + std::to_string(i)}}
                 .dump() +
             "\n";
  return lines;
}

std::string turn_line(const std::string& content) {
  return Json{{"messages", {{{"role", "user"}, {"content", content}}}}}.dump() + "\n";
}

TEST_F(Talking, ManyPromptsAtOnceAreContinuedAsOneByOne) {
  const std::string options = "-n 24 --temp 0";
  const std::vector<Json> together = continued(0, prompt_lines(12), options);
  ASSERT_EQ(together.size(), 12u);
  for (const Json& line : together) {
    EXPECT_EQ(line["text"].get<std::string>() + "\n",
              run(command(0, "-p " + quoted(line["prompt"]) + " " + options)).out);
    EXPECT_EQ(line["tokens"] == 24, line["finish_reason"] == "length");
    EXPECT_EQ(line["id"], &line - together.data());  // what else a line has comes out, too
  }
  EXPECT_EQ(continued(2, prompt_lines(12), options), together);
}

TEST_F(Talking, APromptsTextDependsOnSeedAndPlaceAlone) {
  const std::string options = "-n 24 --temp 1 -s 7 --ignore-eos";
  const std::vector<Json> twelve = continued(0, prompt_lines(12), options),
                          five = continued(0, prompt_lines(5), options);
  EXPECT_EQ(five, std::vector<Json>(twelve.begin(), twelve.begin() + 5));
  EXPECT_EQ(continued(2, prompt_lines(12), options), twelve);
  EXPECT_EQ(twelve[0]["text"].get<std::string>() + "\n",
            run(command(0, "-p " + quoted(twelve[0]["prompt"]) + " " + options)).out);
}

// In batches of three, three and one, whose texts end at different tokens, and each prompt alone.
TEST_F(Talking, BatchesOfAnySizeGiveTheSameTextsInTheOrderOfTheFile) {
  const std::string options = "-n 24 --temp 1 -s 7", lines = turn_line("Hi") + turn_line("Count to three.") +
                                                             prompt_lines(4) + turn_line("Where is the cat?");
  const std::vector<Json> together = continued(0, lines, options);
  ASSERT_EQ(together.size(), 7u);
  std::set<int> lengths;
  for (const Json& line : together) lengths.insert(line["tokens"].get<int>());
  EXPECT_GE(lengths.size(), 3u);
  for (const int ranks : {0, 2})
    for (const std::string size : {"1", "3", "7", "100"})
      EXPECT_EQ(continued(ranks, lines, options + " --batch-size " + size), together) << ranks << ", " << size;
}

// What the chat template ends a turn with ends no other text of the file: a model that comes to all tokens shows it.
TEST_F(Talking, AConversationInTheFileEndsNoTextThatIsNone) {
  const std::string options = "-n 400 -c 500 --temp 2 --top-k 0 --top-p 1 --min-p 0 -s 5", golden = "tests/goldens/sft";
  const std::vector<Json> alone = continued(0, prompt_lines(20), options, golden);
  for (const int ranks : {0, 2}) {
    std::vector<Json> beside = continued(ranks, prompt_lines(20) + turn_line("Hi"), options, golden);
    ASSERT_EQ(beside.size(), 21u);
    beside.pop_back();
    EXPECT_EQ(beside, alone);
  }
}

TEST_F(Talking, MemoryIsThatOfABatch) {
  const auto keys_and_values = [](int prompts, const std::string& options) {
    write_file(path("prompts.jsonl"), prompt_lines(prompts));
    const std::string err = run(command(0, "--prompts-file " + path("prompts.jsonl") + " -n 1 -c 40 " + options)).err,
                      words = " keys and values of ";
    const size_t begin = err.find(words) + words.size();
    return err.substr(begin, err.find(" tokens", begin) - begin);
  };
  EXPECT_EQ(keys_and_values(7, "--batch-size 3"), "3 × 40");
  EXPECT_EQ(keys_and_values(7, "--batch-size 1"), "40");
  EXPECT_EQ(keys_and_values(7, ""), "7 × 40");
  EXPECT_EQ(keys_and_values(70, ""), "64 × 40");
}

// By rehearsing with lengths alone: 64 contexts of ids would be 275 GB, and one 4.3 GB.
#if !defined(__SANITIZE_ADDRESS__)  // its shadow memory alone is more than the limit
TEST_F(Talking, AContextThatDoesNotFitIsRefusedBeforeMemoryIsTakenForIt) {
  write_file(path("prompts.jsonl"), prompt_lines(64));
  for (const std::string& options : {"--prompts-file " + path("prompts.jsonl"), std::string("--chat")})
    expect_refusal(run_command("ulimit -v 4000000; " + command(0, "-c 1073741824 " + options)),
                   {"this rank needs ", " are free", "a smaller context (-c)"}, true);
}
#endif

TEST_F(Talking, EqualPromptsAreContinuedDifferently) {
  std::string lines;
  for (int i = 0; i < 20; i++) lines += "{\"prompt\": \"The cow\"}\n";
  std::set<std::string> texts;
  for (const Json& line : continued(0, lines, "-n 24 --temp 2 --top-k 0 --min-p 0 -s 7 --ignore-eos"))
    texts.insert(line["text"].get<std::string>());
  EXPECT_EQ(texts.size(), 20u);
}

// The probabilities of a text by eval's logits: one forward over the whole, without a cache.
TEST_F(Talking, LogarithmsOfProbabilitiesAreThoseOfTheWholeText) {
  const Json line = continued(2, R"({"prompt": "The cow says"})", "-n 9 --temp 0 --ignore-eos --logprobs").at(0);
  EXPECT_EQ(json_lines(run(command(0, "-p 'The cow says' -n 9 --temp 0 --ignore-eos --logprobs")).out).at(0)["ids"],
            line["ids"]);
  const auto ids = line["ids"].get<std::vector<int>>();
  const auto given = line["logprobs"].get<std::vector<double>>();
  ASSERT_EQ(ids.size(), 9u);
  ASSERT_EQ(given.size(), 9u);
  Json whole = Json::parse(
      run(llama_tp_with(0) + " tokenize --jsonl --add-special-tokens -m tests/goldens/sft <<< '\"The cow says\"'").out);
  const size_t prompt = whole.size();
  for (const int id : ids) whole.push_back(id);
  write_file(path("ids.jsonl"), Json{{"input_ids", whole}}.dump());
  run(llama_tp_with(0) + " eval -m " + path("out") + " --file " + path("ids.jsonl") + " --dump-logits " +
      path("logits"));
  const StoredValues logits = read_tensors(path("logits")).at(0).second;
  const auto vocabulary = static_cast<size_t>(logits.shape.at(1));
  for (size_t i = 0; i < ids.size(); i++) {
    const float* const row = logits.values.data() + (prompt - 1 + i) * vocabulary;
    double sum = 0;
    for (size_t j = 0; j < vocabulary; j++) sum += std::exp(static_cast<double>(row[j]));
    // f32 logits of magnitude 10 by two orders of summation.
    EXPECT_NEAR(given[i], static_cast<double>(row[ids[i]]) - std::log(sum), 1e-4);
  }
}

TEST_F(Talking, BadPromptsAreNamedByTheirLine) {
  const auto refused = [](const std::string& lines, const Words& words) {
    write_file(path("bad.jsonl"), lines);
    expect_refused(0, "generate -m " + path("out") + " --prompts-file " + path("bad.jsonl"), words);
  };
  const std::string good = "{\"prompt\": \"a\"}\n";
  refused(good + "{\"prompt\": \"a", {"bad.jsonl: line 2: is not JSON from byte 14 on"});
  refused(good + "{\"prompt\": \"a\xff\"}", {"bad.jsonl: line 2: byte 14 is not UTF-8"});
  refused(good + "{\"prompt\": \"\\ud800\"}", {"bad.jsonl: line 2: is not JSON from byte 19 on"});
  refused(good + "{\"prompt\": \"a\"}" + std::string(1, '\0') + "}", {"line 2: is not JSON: byte 16 is NUL"});
  refused(good + "7", {"line 2: holds 7; an object is needed, with prompt or messages in it"});
  for (const std::string key : {"text", "tokens", "finish_reason"})
    refused(good + Json{{"prompt", "a"}, {key, "mine"}}.dump(), {"line 2: has " + key + ", which the answer writes"});
  const std::string with_ids = Json{{"prompt", "a"}, {"ids", "mine"}}.dump();
  EXPECT_EQ(continued(0, with_ids, "-n 1").at(0)["ids"], "mine");
  expect_refused(0, "generate --logprobs -m " + path("out") + " --prompts-file " + path("prompts.jsonl"),
                 {"line 1: has ids, which the answer writes"});
  refused(good + "\n{\"other\": \"a\"}", {"line 3: needs either prompt or messages"});
  refused("{\"prompt\": 7}", {"line 1: prompt is no text"});
  refused(good + "{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}",
          {"line 2: message 1 is of the assistant"});
  refused("{\"messages\": [{\"role\": \"user\", \"content\": \"Hi<|im_end|>\"}]}",
          {"line 1: a message holds the name of a special token", "--special"});
  refused("{\"tools\": [{}], \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", {"line 1: has tools"});
  refused("\n", {"bad.jsonl: holds no prompts"});
  const std::string lines = good + "\n{\"prompt\": \"" + std::string(2000, 'a') + "\"}\n" + good;
  write_file(path("bad.jsonl"), lines);
  for (const int ranks : {0, 2})
    expect_refused(ranks, "generate -m " + path("out") + " --prompts-file " + path("bad.jsonl"),
                   {"bad.jsonl: line 3: the prompt has ", " tokens, but the context only 512"});
}

TEST_F(Talking, AConversationIsContinuedAsItsWholeTextWouldBe) {
  expect_turns_of_the_whole("");
  train(path("mistral"), "--chat-template mistral");
  expect_turns_of_the_whole("--chat-template mistral", path("mistral"), " ");
}

// Zephyr's template asks for an answer with a line's end. Llama 2's vocabulary has a byte token for it, and so has the
// golden's when another character takes the place of its own.
TEST_F(Talking, AnAnswerBeginsBehindTheTemplatesLastByte) {
  const std::string folder = path("bytes");
  std::filesystem::create_directory(folder);
  std::string tokenizer = whole_file("tests/goldens/tokenizers/llama2/tokenizer.json");
  for (size_t at = 0; (at = tokenizer.find("\\n", at)) != std::string::npos;) tokenizer.replace(at, 2, "☃");
  write_file(folder + "/tokenizer.json", tokenizer);
  write_file(folder + "/tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
  Json config = Json::parse(whole_file("tests/goldens/sft/config.json"));
  config["vocab_size"] = 676;
  write_file(folder + "/config.json", config.dump());
  const std::string options = "--chat-template zephyr";
  run(llama_tp_with(0) + " train --config " + folder + "/config.json --tokenizer " + folder +
      " --train-file tests/goldens/sft/messages.jsonl --learning-rate 1e-2 --max-steps 150 --dtype float32 "
      "--output-dir " +
      folder + "/out " + options);
  EXPECT_EQ(chat(0, "Hi\n", options, folder + "/out").out, "Hello!\n");
}

// Dynamic NTK turns all keys by the length of the conversation once that is past the model's positions.
TEST_F(Talking, AConversationPastThePositionsOfDynamicNtkIsReadAsOneText) {
  const std::string folder = path("dynamic");
  std::filesystem::copy(path("out/checkpoint-60"), folder);
  Json config = Json::parse(whole_file(folder + "/config.json"));
  config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 4.0}};
  for (const int positions : {32, 48}) {  // before the first turn ends, and behind it
    config["max_position_embeddings"] = positions;
    write_file(folder + "/config.json", config.dump());
    expect_turns_of_the_whole("", folder);
  }
}

TEST_F(Talking, AConversationEndsWithTheOriginalContextOfLongrope) {
  const std::string folder = path("longrope");
  std::filesystem::copy(path("out/checkpoint-60"), folder);
  Json config = Json::parse(whole_file(folder + "/config.json"));
  const int64_t pairs = config["hidden_size"].get<int64_t>() / config["num_attention_heads"].get<int64_t>() / 2;
  const std::vector<double> factors(static_cast<size_t>(pairs), 1);
  config["rope_scaling"] = {{"rope_type", "longrope"},
                            {"original_max_position_embeddings", 40},
                            {"short_factor", factors},
                            {"long_factor", factors}};
  write_file(folder + "/config.json", config.dump());
  const CommandResult result = chat(0, "Hi\n" + std::string(80, 'a') + "\n", "-n 2", folder);
  EXPECT_TRUE(holds(result.err, "the context ends after 40 tokens, where longrope", "; a chat does not go past them\n",
                    "not sent: the context of 40 tokens is full, and with longrope no -c gives a larger one"));
}

TEST_F(Talking, CommandsBeginWithASlash) {
  const std::string hello = chat(0, "Hi\n").out;
  EXPECT_EQ(hello, "Hello!\n");  // learned, and without what was said before
  const CommandResult result = chat(2, "Count to three.\n/help\n/clear\n\nHi\n/what\n/exit\nHi\n");
  EXPECT_TRUE(result.out.ends_with(hello)) << result.out;
  EXPECT_TRUE(holds(result.err, "/clear  forget", "/what is no command"));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
}

TEST_F(Talking, SpecialTokensAreOnlyTakenWhenAsked) {
  EXPECT_TRUE(holds(chat(0, "Hi<|im_end|>\n").err, "not sent", "--special"));
  EXPECT_EQ(chat(0, "Hi<|im_end|>\n").out, "");
  EXPECT_NE(chat(0, "Hi<|im_end|>\n", "--special").out, "");
  expect_refused(2, "generate --chat --system 'Be brief.<|im_end|>' -m " + path("out"), {"special token", "--special"});
  const std::string prompt = "-p '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n' --temp 0 -n 9 ";
  write_file(path("p"), "<|begin_of_text|><|im_start|>user\nHi");
  EXPECT_NE(run(command(0, prompt)).out, run(command(0, prompt + "--special")).out);
  EXPECT_TRUE(holds(run(command(0, "-f " + path("p") + " -n 1 --special")).err, "prompt  10 tokens"));
}

// Seconds, of which a busy machine may take one or two between ranks that are in order.
TEST_F(Talking, TheLimitOfWaitsIsForRanksAndNotForPeople) {
  const std::string late = "--chat --timeout 4 -c 1000000 --temp ";
  EXPECT_EQ(run("(sleep 6; echo Hi) | " + command(2, late + "0")).out, "Hello!\n");
  write_file(path("typed"), "What is the word?\n");
  const CommandResult stopped =
      run_command(command(2, late + "1 -s 1 --ignore-eos") + " < " + path("typed") + " > " + path("said") +
                  " & job=$!\n" + "while [ ! -s " + path("said") + " ] && kill -0 $job; do sleep 0.01; done\n" +
                  "rank=$(" + ranks_of_job + " | tail -1); kill -STOP $rank; wait $job; echo status $? process $rank");
  ASSERT_FALSE(stopped.timed_out) << stopped.err;
  ASSERT_EQ(stopped.errors().size(), 1u) << stopped.err;
  const std::string process = stopped.out.substr(stopped.out.find("process "));
  EXPECT_TRUE(holds(stopped.errors().front(), "waited 4 s in ", "(" + process.substr(0, process.size() - 1) + ")",
                    ", generating", "--timeout"))
      << stopped.err;
}

TEST_F(Talking, SaysThatTheContextIsFullAndGoesOn) {
  const CommandResult result = chat(2, std::string(200, 'a') + "\nHi\n", "-c 60");
  EXPECT_TRUE(holds(result.err, "the context of 60 tokens is full; give a larger one with -c; /clear begins anew"));
  EXPECT_EQ(result.out, "Hello!\n");
  EXPECT_TRUE(holds(chat(0, "Hi\n", "-c 40 --ignore-eos").err, "the context of 40 tokens is full; give a larger one"));
}

TEST_F(Talking, WantsATemplateAndOneKindOfPrompt) {
  expect_refused(0, "generate -m " + path("out") + " --chat -p x",
                 {"one of -p TEXT, -f FILE, --prompts-file FILE and --chat"});
  expect_refused(0, "generate -m " + path("out") + " -p x --system y", {"--system is for --chat"});
  expect_refused(0, "generate -m " + path("out") + " --chat --echo", {"--echo is for -p and -f"});
  expect_refused(0, "generate -m " + path("out") + " -p x --chat-template chatml", {"--chat-template is for --chat"});
  const std::string bare = path("bare");
  std::filesystem::copy(path("out/checkpoint-60"), bare);
  write_file(bare + "/tokenizer_config.json", R"({"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"})");
  expect_refused(2, "generate -m " + bare + " --chat", {bare, "has no chat template", "--chat-template"});
  EXPECT_EQ(run(command(0, "--chat --temp 0 --chat-template chatml <<< Hi", bare)).out, "Hello!\n");
}

TEST_F(Talking, GenerationConfigIsWhatOptionsOverride) {
  const std::string folder = path("advised");
  std::filesystem::copy(path("out/checkpoint-60"), folder);
  const auto advise = [&](const Json& config) { write_file(folder + "/generation_config.json", config.dump()); };
  const auto text = [&](const std::string& options) {
    return run(command(0, "-p Once -n 20 --ignore-eos " + options, folder)).out;
  };
  const std::string greedy = text("--temp 0"), wild = text("--temp 3 --top-k 0 --top-p 1 -s 4"),
                    one = text("--top-k 1 -s 1");
  advise({{"do_sample", false}});
  EXPECT_EQ(text(""), greedy);
  EXPECT_EQ(text("--temp 3 --top-k 0 --top-p 1 -s 4"), wild);
  advise({{"do_sample", true}, {"temperature", 3.0}, {"top_k", 0}, {"top_p", 1.0}, {"max_length", 7}});
  EXPECT_EQ(text("-s 4"), wild);
  EXPECT_EQ(text("-s 4 --temp 0"), greedy);
  const std::string penalized = text("--temp 0 --repeat-penalty 3");
  EXPECT_NE(penalized, greedy);
  advise({{"repetition_penalty", 3}});
  EXPECT_EQ(text("--temp 0"), penalized);
  EXPECT_EQ(text("--temp 0 --repeat-penalty 1"), greedy);
  EXPECT_TRUE(holds(run(command(0, "-p Once -n 1 --temp 0", folder)).err, "most likely token, repeat penalty 3\n"));
  advise({{"top_k", 1}, {"min_p", nullptr}});
  EXPECT_EQ(text("-s 9"), one);
  const Json line = json_lines(run(command(0, "-p Once -n 1 --logprobs --temp 0 --ignore-eos", folder)).out).at(0);
  advise({{"eos_token_id", {0, line["ids"][0]}}});
  EXPECT_EQ(run(command(0, "-p Once -n 20 --temp 0", folder)).out, "\n");
  advise({{"temperature", "hot"}});
  expect_refused(0, "generate -p x -m " + folder, {"generation_config.json: temperature is \"hot\"; a number"});
  advise({{"repetition_penalty", 0}});
  expect_refused(0, "generate -p x -m " + folder, {"repetition_penalty is 0; a number between 0.001 and 1000"});
  advise({{"eos_token_id", {1.5}}});
  expect_refused(0, "generate -p x -m " + folder, {"eos_token_id is [1.5]; a token id or"});
  const auto vocabulary = Json::parse(whole_file(folder + "/config.json"))["vocab_size"].get<int>();
  advise({{"eos_token_id", vocabulary - 1}});
  EXPECT_EQ(text("--temp 0"), greedy);
  // Ids that the vocabulary lacks end nothing, also where 32 bits of one are those of an id that it has, and are named.
  const auto said_and_ended = [&](const Json& ids) {
    advise({{"eos_token_id", ids}});
    return run(command(0, "-p Once -n 20 --temp 0", folder));
  };
  const auto ended = [&](const Json& ids) { return said_and_ended(ids).out; };
  const auto first = line["ids"][0].get<int64_t>();
  const std::string undisturbed = ended(nullptr);
  EXPECT_NE(undisturbed, "\n");
  for (const Json& beyond : {Json(vocabulary), Json(-1), Json((int64_t{1} << 32) + first), Json(UINT64_MAX)}) {
    EXPECT_EQ(ended({beyond, first}), "\n");
    EXPECT_EQ(ended(beyond), undisturbed);
  }
  const auto left_out = [&](const Json& ids) { return said_and_ended(ids).err.find("left out") != std::string::npos; };
  EXPECT_TRUE(holds(said_and_ended({99999, first, -2}).err,
                    folder + "/generation_config.json: left out, as outside of the vocabulary of " +
                        std::to_string(vocabulary) + ": eos_token_id 99999, eos_token_id -2\n"));
  EXPECT_FALSE(left_out(first));
  EXPECT_FALSE(left_out(-1));
}

// A program at a terminal of its own.
class Terminal {
 public:
  explicit Terminal(const std::string& line) {
    process_ = forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (process_ != 0) return;
    execl("/bin/bash", "bash", "-c", line.c_str(), nullptr);
    _exit(127);
  }
  void type(const std::string& text) const {
    EXPECT_EQ(write(terminal_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // Reads on until `word` has come so often; all there was.
  const std::string& read_until(const std::string& word, int times) {
    while (count(word) < times) {
      char bytes[4096];
      const ssize_t got = read(terminal_, bytes, sizeof bytes);
      if (got <= 0) break;  // the program has ended
      seen_.append(bytes, static_cast<size_t>(got));
    }
    return seen_;
  }
  int end() {
    read_until("\x01 nothing", 1);
    int status = 0;
    waitpid(process_, &status, 0);
    close(terminal_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  int count(const std::string& word) const {
    int times = 0;
    for (size_t at = seen_.find(word); at != std::string::npos; at = seen_.find(word, at + 1)) times++;
    return times;
  }
  int terminal_ = -1;
  pid_t process_ = 0;
  std::string seen_;
};

std::string without_returns(std::string text) {
  std::erase(text, '\r');
  return text;
}

TEST_F(Talking, LinesThatArePastedTogetherAreOneMessage) {
  const std::string answer = answer_to("Hi\n\nWhere is the cat?");
  for (const int ranks : {0, 2}) {
    Terminal terminal("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 " +
                      command(ranks, "--chat --temp 0 -n 30"));
    terminal.read_until("\n> ", 1);
    terminal.type("Hi\n\nWhere is the cat?\n\n");
    terminal.read_until("\n> ", 2);
    terminal.type("/clear\nHi\n");
    terminal.read_until("\n> ", 4);
    terminal.type("\x04");
    EXPECT_EQ(terminal.end(), 0);
    const std::string seen = without_returns(terminal.read_until("\x01 nothing", 0));
    EXPECT_TRUE(holds(seen, "\n" + answer + "\n\n> /clear\n", "\n> Hello!\n")) << seen;
  }
}

// A first line that begins with a slash is a command only if there is one of that name.
TEST_F(Talking, PastedLinesThatBeginWithASlashAreOneMessage) {
  const std::string paste = "// adds two numbers\nint add(int a, int b);";
  const std::string answer = answer_to(paste);
  Terminal terminal("OMP_NUM_THREADS=1 " + command(0, "--chat --temp 0 -n 30"));
  terminal.read_until("\n> ", 1);
  terminal.type(paste + "\n");
  terminal.read_until("\n> ", 2);
  terminal.type("/what\n");
  terminal.read_until("\n> ", 3);
  terminal.type("\x04");
  EXPECT_EQ(terminal.end(), 0);
  const std::string seen = without_returns(terminal.read_until("\x01 nothing", 0));
  EXPECT_TRUE(holds(seen, "\n" + answer + "\n\n> /what\n/what is no command")) << seen;
  EXPECT_FALSE(holds(seen, "numbers is no command")) << seen;
}

// A terminal drops what is typed behind 4,095 bytes of a line. The limit that is met is the terminal's own.
TEST_F(Talking, ALineThatATerminalCutsIsNotSent) {
  Terminal terminal("OMP_NUM_THREADS=1 " + command(0, "--chat --temp 0 -n 3 -c 20000"));
  terminal.read_until("\n> ", 1);
  terminal.type("Hi\n" + std::string(4500, 'a') + "\nHi\n");
  terminal.read_until("\n> ", 2);
  terminal.type(std::string(4094, 'a') + "\n");
  terminal.read_until("\n> ", 3);
  terminal.type("\x04");
  EXPECT_EQ(terminal.end(), 0);
  const std::string seen = without_returns(terminal.read_until("\x01 nothing", 0)),
                    refusal = "not sent: a terminal passes at most 4,095 bytes of a line";
  const size_t at = seen.find(refusal);
  EXPECT_NE(at, std::string::npos) << seen;
  EXPECT_EQ(seen.find(refusal, at + 1), std::string::npos) << seen;
}

// An answer without an end and with room for a million tokens: only the wish to stop it ends it. Ctrl-D leaves, too.
TEST_F(Talking, EnterOrCtrlCStopsAnAnswer) {
  struct Way {
    int ranks;
    const char* key;
  };
  for (const auto& [ranks, key] : {Way{0, "\n"}, Way{0, "\x03"}, Way{2, "\n"}}) {
    SCOPED_TRACE(testing::Message() << ranks << " ranks, key " << static_cast<int>(key[0]));
    Terminal terminal("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 " +
                      command(ranks, "--chat --temp 1 -s 1 --ignore-eos -c 1000000"));
    terminal.read_until("\n> ", 1);
    terminal.type("What is the word?\n");
    const auto read_some_of_the_answer = [&] {
      const std::string& seen = terminal.read_until("\x01 nothing", 0);
      terminal.read_until("e", static_cast<int>(std::count(seen.begin(), seen.end(), 'e')) + 60);
    };
    read_some_of_the_answer();
    terminal.type(key);
    terminal.read_until("\n> ", 2);
    terminal.type("Where is the cat?\n");
    read_some_of_the_answer();
    terminal.type("Hi\n");  // stops it, and is answered
    terminal.read_until("\n> ", 3);
    read_some_of_the_answer();
    terminal.type("\n");
    terminal.read_until("\n> ", 4);
    terminal.type("Hi\n");
    read_some_of_the_answer();
    terminal.type("\x04");
    EXPECT_EQ(terminal.end(), 0);
    EXPECT_EQ(terminal.read_until("\x01 nothing", 0).find("is full"), std::string::npos);
  }
}

}  // namespace
}  // namespace llama_tp
