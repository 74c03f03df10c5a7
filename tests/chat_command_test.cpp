// `llama_tp generate` as a conversation: every answer is the continuation of the whole so far.
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "support/command.h"
#include "support/error_of.h"
#include "support/refusal.h"
#include "support/small_model.h"
#include "support/talking_model.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

class Chat : public TalkingModel {
 protected:
  // What a person types, a line each, and the answers that come back.
  static CommandResult chat(int ranks, const std::string& typed, const std::string& options = "",
                            const std::string& model = path("out")) {
    write_file(path("typed"), typed);
    return run(command(ranks, "--chat --temp 0 " + options, model) + " < " + path("typed"));
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
};

TEST_F(Chat, AConversationIsContinuedAsItsWholeTextWouldBe) {
  expect_turns_of_the_whole("");
  train(path("mistral"), "--chat-template mistral");
  expect_turns_of_the_whole("--chat-template mistral", path("mistral"), " ");
}

// Zephyr's template asks for an answer with a line's end. Llama 2's vocabulary has a byte token for it, and so has the
// golden's when another character takes the place of its own.
TEST_F(Chat, AnAnswerBeginsBehindTheTemplatesLastByte) {
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
TEST_F(Chat, AConversationPastThePositionsOfDynamicNtkIsReadAsOneText) {
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

TEST_F(Chat, AConversationEndsWithTheOriginalContextOfLongrope) {
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

TEST_F(Chat, CommandsBeginWithASlash) {
  const std::string hello = chat(0, "Hi\n").out;
  EXPECT_EQ(hello, "Hello!\n");  // learned, and without what was said before
  const CommandResult result = chat(2, "Count to three.\n/help\n/clear\n\nHi\n/what\n/exit\nHi\n");
  EXPECT_TRUE(result.out.ends_with(hello)) << result.out;
  EXPECT_TRUE(holds(result.err, "/clear  forget", "/what is no command"));
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
}

TEST_F(Chat, SpecialTokensAreOnlyTakenWhenAsked) {
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
TEST_F(Chat, TheLimitOfWaitsIsForRanksAndNotForPeople) {
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

TEST_F(Chat, SaysThatTheContextIsFullAndGoesOn) {
  const CommandResult result = chat(2, std::string(200, 'a') + "\nHi\n", "-c 60");
  EXPECT_TRUE(holds(result.err, "the context of 60 tokens is full; give a larger one with -c; /clear begins anew"));
  EXPECT_EQ(result.out, "Hello!\n");
  EXPECT_TRUE(holds(chat(0, "Hi\n", "-c 40 --ignore-eos").err, "the context of 40 tokens is full; give a larger one"));
}

TEST_F(Chat, WantsATemplateAndOneKindOfPrompt) {
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

// No message could be sent with it. Before weights are read: here there are none.
TEST_F(Chat, RefusesASystemMessageThatTheTemplateHasNoPlaceFor) {
  const std::string folder = path("weightless");
  std::filesystem::copy(path("out/checkpoint-60"), folder);
  std::filesystem::remove(folder + "/model.safetensors");
  for (const int ranks : {0, 2})
    expect_refused(ranks, "generate --chat --system 'Be brief.' --chat-template mistral-first -m " + folder,
                   {"--system: the chat template mistral-first has no place for a system message; leave it out, and "
                    "put it into your first message"});
  EXPECT_EQ(chat(0, "Hi\n", "-n 1 --chat-template mistral-first").status, 0);
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

TEST_F(Chat, LinesThatArePastedTogetherAreOneMessage) {
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
TEST_F(Chat, PastedLinesThatBeginWithASlashAreOneMessage) {
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
TEST_F(Chat, ALineThatATerminalCutsIsNotSent) {
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
TEST_F(Chat, EnterOrCtrlCStopsAnAnswer) {
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
