// `llama_tp generate` with one prompt or many: each is continued as it would be alone, and as generation_config.json
// advises.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <set>
#include <sstream>

#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/small_model.h"
#include "support/talking_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

class Prompts : public TalkingModel {};

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

TEST_F(Prompts, ManyPromptsAtOnceAreContinuedAsOneByOne) {
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

// Numbers that no double is, a key that is there twice, escapes and spaces: to the byte.
TEST_F(Prompts, ALineComesOutAsItWasWritten) {
  const std::string own = R"({"id": 12345678901234567890123,"x" :9007199254740993.0, "y": {"a": 1e-400, "a": -0.0},)",
                    prompt = own + R"( "prompt": "a\u00e9} ")",
                    turn = own + R"("messages":[{"role":"user","content":"Hi"}])";
  write_file(path("lines.jsonl"), "\xef\xbb\xbf \t" + prompt + "} \r\n" + turn + " }");
  for (const std::string options : {"", " --logprobs"}) {
    std::istringstream out(run(command(2, "-n 2 --temp 0 --prompts-file " + path("lines.jsonl") + options)).out);
    for (const std::string& input : {prompt, turn + " "}) {
      std::string line;
      std::getline(out, line);
      EXPECT_TRUE(line.starts_with(input + ",\"text\":")) << line;
      EXPECT_EQ(Json::parse(line).size(), options.empty() ? 7u : 9u) << line;
    }
    EXPECT_EQ(out.get(), EOF);
  }
}

TEST_F(Prompts, APromptsTextDependsOnSeedAndPlaceAlone) {
  const std::string options = "-n 24 --temp 1 -s 7 --ignore-eos";
  const std::vector<Json> twelve = continued(0, prompt_lines(12), options),
                          five = continued(0, prompt_lines(5), options);
  EXPECT_EQ(five, std::vector<Json>(twelve.begin(), twelve.begin() + 5));
  EXPECT_EQ(continued(2, prompt_lines(12), options), twelve);
  EXPECT_EQ(twelve[0]["text"].get<std::string>() + "\n",
            run(command(0, "-p " + quoted(twelve[0]["prompt"]) + " " + options)).out);
}

// In batches of three, three and one, whose texts end at different tokens, and each prompt alone.
TEST_F(Prompts, BatchesOfAnySizeGiveTheSameTextsInTheOrderOfTheFile) {
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
TEST_F(Prompts, AConversationInTheFileEndsNoTextThatIsNone) {
  const std::string options = "-n 400 -c 500 --temp 2 --top-k 0 --top-p 1 --min-p 0 -s 5", golden = "tests/goldens/sft";
  const std::vector<Json> alone = continued(0, prompt_lines(20), options, golden);
  for (const int ranks : {0, 2}) {
    std::vector<Json> beside = continued(ranks, prompt_lines(20) + turn_line("Hi"), options, golden);
    ASSERT_EQ(beside.size(), 21u);
    beside.pop_back();
    EXPECT_EQ(beside, alone);
  }
}

TEST_F(Prompts, MemoryIsThatOfABatch) {
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
TEST_F(Prompts, AContextThatDoesNotFitIsRefusedBeforeMemoryIsTakenForIt) {
  write_file(path("prompts.jsonl"), prompt_lines(64));
  for (const std::string& options : {"--prompts-file " + path("prompts.jsonl"), std::string("--chat")})
    expect_refusal(run_command("ulimit -v 4000000; " + command(0, "-c 1073741824 " + options)),
                   {"this rank needs ", " are free", "a smaller context (-c)"}, true);
}
#endif

TEST_F(Prompts, EqualPromptsAreContinuedDifferently) {
  std::string lines;
  for (int i = 0; i < 20; i++) lines += "{\"prompt\": \"The cow\"}\n";
  std::set<std::string> texts;
  for (const Json& line : continued(0, lines, "-n 24 --temp 2 --top-k 0 --min-p 0 -s 7 --ignore-eos"))
    texts.insert(line["text"].get<std::string>());
  EXPECT_EQ(texts.size(), 20u);
}

// The probabilities of a text by eval's logits: one forward over the whole, without a cache.
TEST_F(Prompts, LogarithmsOfProbabilitiesAreThoseOfTheWholeText) {
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
  const StoredValues logits = read_dump(path("logits")).at(0).logits;
  const auto vocabulary = static_cast<size_t>(logits.shape.at(1));
  for (size_t i = 0; i < ids.size(); i++) {
    const float* const row = logits.values.data() + (prompt - 1 + i) * vocabulary;
    double sum = 0;
    for (size_t j = 0; j < vocabulary; j++) sum += std::exp(static_cast<double>(row[j]));
    // f32 logits of magnitude 10 by two orders of summation.
    EXPECT_NEAR(given[i], static_cast<double>(row[ids[i]]) - std::log(sum), 1e-4);
  }
}

TEST_F(Prompts, BadPromptsAreNamedByTheirLine) {
  const auto refused = [](const std::string& lines, const Words& words) {
    write_file(path("bad.jsonl"), lines);
    expect_refused(0, "generate -m " + path("out") + " --prompts-file " + path("bad.jsonl"), words);
  };
  const std::string good = "{\"prompt\": \"a\"}\n";
  refused(good + "{\"prompt\": \"a", {"bad.jsonl: line 2: is not JSON from byte 14 on"});
  refused(good + "{\"prompt\": \"a\xff\"}", {"bad.jsonl: line 2: byte 14 is not UTF-8"});
  refused(good + "{\"prompt\": \"\\ud800\"}", {"bad.jsonl: line 2: is not JSON from byte 19 on"});
  refused(good + "{\"prompt\": \"a\"}" + std::string(1, '\0') + "}", {"line 2: is not JSON: byte 16 is NUL"});
  refused(good + "{\"y\": 1e400, \"prompt\": \"a\"}",
          {"bad.jsonl: line 2: has a number that is too large, 1e400; write it as a text in quotes"});
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

TEST_F(Prompts, GenerationConfigIsWhatOptionsOverride) {
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
  expect_refused(0, "generate -p x -m " + folder,
                 {"generation_config.json: temperature: is \"hot\"; it must be a number"});
  advise({{"repetition_penalty", 0}});
  expect_refused(0, "generate -p x -m " + folder, {"repetition_penalty: is 0; it must be a number from 0.001 to 1000"});
  for (const Json& count : {Json(uint64_t{1} << 63), Json(UINT64_MAX), Json(-1), Json(2.5)}) {
    advise({{"top_k", count}});
    expect_refused(0, "generate -p x -m " + folder,
                   {"generation_config.json: top_k: is " + count.dump() + "; it must be an integer"});
  }
  advise({{"top_k", INT64_MAX}});
  EXPECT_TRUE(holds(run(command(0, "-p Once -n 1", folder)).err, "top-k 9223372036854775807"));
  advise({{"eos_token_id", {1.5}}});
  expect_refused(0, "generate -p x -m " + folder, {"eos_token_id: is [1.5]; it must be a token id or"});
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

}  // namespace
}  // namespace llama_tp
