// Chat templates against transformers' apply_chat_template (tests/goldens/chat), and every conversation that is none.
#include "io/chat/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "io/chat/chat_tokens.h"
#include "io/chat/white_space.h"
#include "io/files.h"
#include "scratch_folder.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

using Json = nlohmann::json;

const std::string goldens = "tests/goldens/chat";

std::vector<Message> messages_of(const Json& list) {
  std::vector<Message> messages;
  for (const Json& message : list) messages.push_back({message["role"], message["content"]});
  return messages;
}

class ChatTemplateGolden : public testing::TestWithParam<std::string> {};

TEST_P(ChatTemplateGolden, IsRecognisedAndRendersAndMasksAsTransformersDoes) {
  const std::string folder = goldens + "/" + GetParam();
  const auto tokenizer = load_tokenizer(folder);
  ChatTemplate chat = find_chat_template(folder, *tokenizer);
  const bool has_variant =
      GetParam().ends_with(".llama2") || GetParam().ends_with(".default") || GetParam().ends_with(".tools");
  EXPECT_EQ(chat.name(), has_variant ? GetParam().substr(0, GetParam().rfind('.')) : GetParam());
  chat.set_today("03 Feb 2025");
  size_t cases = 0;
  std::istringstream lines(read_text(folder + "/cases.jsonl"));
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text);
    const std::vector<Message> messages = messages_of(line["messages"]);
    const RenderedChat rendered = chat.render(messages, false);
    EXPECT_EQ(rendered.text, line["text"].get<std::string>());
    EXPECT_EQ(chat.render(messages, true).text, line["prompt"].get<std::string>());
    const ChatTokens tokens = tokenize_chat(*tokenizer, rendered);
    EXPECT_EQ(tokens.ids, line["ids"].get<std::vector<int32_t>>()) << rendered.text;
    const std::vector<int> mask(tokens.learned.begin(), tokens.learned.end());
    EXPECT_EQ(mask, line["mask"].get<std::vector<int>>()) << rendered.text;
    cases++;
  }
  EXPECT_GE(cases, 4u);
}

// What a model wrote behind the prompt, up to the token that ends it, is rendered again as those bytes in the next turn.
TEST_P(ChatTemplateGolden, AnAnswerIsRenderedAsItWasWritten) {
  const std::string folder = goldens + "/" + GetParam();
  const auto tokenizer = load_tokenizer(folder);
  const ChatTemplate chat = find_chat_template(folder, *tokenizer);
  std::vector<std::string> ends = chat.stops();
  ends.push_back(tokenizer->token_of(*tokenizer->eos()).value());
  std::istringstream lines(read_text(folder + "/cases.jsonl"));
  for (std::string text; std::getline(lines, text);) {
    std::vector<Message> turn = messages_of(Json::parse(text)["messages"]);
    while (turn.size() > 1 && turn.back().role == "user") turn.pop_back();
    if (turn.back().role != "assistant") continue;
    const std::string content = turn.back().content;
    const RenderedChat whole = chat.render(turn, false);
    turn.pop_back();
    const size_t prompt = chat.render(turn, true).text.size();
    std::string written = whole.text.substr(prompt, whole.learned.back().end - prompt);
    for (const std::string& end : ends)
      if (written.ends_with(end)) written.resize(written.size() - end.size());
    turn.push_back({"assistant", chat.content_of(written)});
    EXPECT_EQ(chat.render(turn, false).text, whole.text);
    EXPECT_EQ(trimmed(chat.content_of(written)), trimmed(content));
  }
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Templates, ChatTemplateGolden, testing::ValuesIn(golden_names()),
                         [](const testing::TestParamInfo<std::string>& golden) {
                           std::string name = golden.param;
                           for (char& letter : name)
                             if (!std::isalnum(static_cast<unsigned char>(letter))) letter = '_';
                           return name;
                         });

class ChatTemplates : public testing::Test {
 protected:
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(goldens + "/chatml");

  std::string refusal(const std::vector<Message>& messages, const std::string& name = "chatml") const {
    return error_of([&] { find_chat_template("", *tokenizer, {name}).render(messages, true); });
  }
  static std::string jinja_of(const std::string& name) {
    return Json::parse(read_text(goldens + "/" + name + "/tokenizer_config.json"))["chat_template"];
  }
  // The template of a folder whose chat_template.jinja is this.
  std::string found(const std::string& jinja) const {
    const ScratchFolder folder;
    write_text(folder / "chat_template.jinja", jinja);
    return find_chat_template(folder.path(), *tokenizer).name();
  }
  // Of a folder whose tokenizer_config.json is this.
  std::string not_found(const Json& config) const {
    const ScratchFolder folder;
    write_text(folder / "tokenizer_config.json", config.dump());
    const std::string error = error_of([&] { find_chat_template(folder.path(), *tokenizer); });
    EXPECT_TRUE(holds(error, folder.path(), "--chat-template", "chatml, granite, llama-2"));
    return error;
  }
};

TEST_F(ChatTemplates, RolesOutOfOrderAreRefused) {
  EXPECT_TRUE(holds(refusal({}), "no messages"));
  EXPECT_TRUE(holds(refusal({{"system", "s"}}), "system message alone"));
  EXPECT_TRUE(holds(refusal({{"assistant", "a"}}), "message 1 is of the assistant where the user's turn is"));
  EXPECT_TRUE(holds(refusal({{"user", "u"}, {"user", "v"}}), "message 2 is of the user where the assistant's turn is"));
  EXPECT_TRUE(holds(refusal({{"system", "s"}, {"user", "u"}, {"system", "s"}}), "message 3 is of the system"));
  EXPECT_TRUE(holds(refusal({{"user", "u"}, {"tool", "v"}}), "message 2 has the role \"tool\""));
  EXPECT_TRUE(holds(refusal({{"system", "s"}, {"user", "u"}}, "mistral-first"), "mistral-first has no place"));
}

TEST_F(ChatTemplates, AnEmptyAnswerIsRefused) {
  EXPECT_TRUE(holds(refusal({{"user", "u"}, {"assistant", ""}}), "message 2 is an empty answer"));
  EXPECT_TRUE(holds(refusal({{"user", "u"}, {"assistant", " \n\u3000"}, {"user", "v"}}), "message 2 is an empty"));
}

TEST_F(ChatTemplates, AnUnknownOneIsNeverTakenForAnother) {
  EXPECT_TRUE(holds(not_found({{"eos_token", "</s>"}}), "has no chat template"));
  EXPECT_TRUE(holds(not_found({{"chat_template", nullptr}}), "has no chat template"));
  EXPECT_TRUE(holds(not_found({{"chat_template", 7}}), "neither a text nor a list"));
  EXPECT_TRUE(
      holds(not_found({{"chat_template", Json::array({{{"name", "tool_use"}, {"template", "x"}}})}}), "neither"));
  EXPECT_TRUE(holds(not_found({{"chat_template", "{{ messages[0]['content'] }}"}}), "none that this program knows"));
  // Of a known kind, but with an own system message, or without the white space.
  const std::string chatml = jinja_of("chatml");
  EXPECT_TRUE(
      holds(not_found({{"chat_template", "{{ '<|im_start|>system\\nYou are Nobody.' }}" + chatml}}), "none that"));
  EXPECT_TRUE(holds(not_found({{"chat_template", "{{ message['content'] | trim }}" + chatml}}), "none that"));
  EXPECT_TRUE(
      holds(error_of([&] { find_chat_template("", *tokenizer, {"alpaca"}); }), "--chat-template alpaca", "zephyr"));
}

// EOS is written, or a token ends an answer, that the tokenizer has not: nothing would end an answer.
TEST_F(ChatTemplates, OneWhoseTokensTheTokenizerLacksIsRefused) {
  auto bare = load_tokenizer("tests/goldens/tokenizers/llama2");  // names no EOS
  const auto refused = [&](const char* name) { return error_of([&] { find_chat_template("", *bare, {name}); }); };
  EXPECT_TRUE(holds(refused("zephyr"), "--chat-template zephyr writes a token", "eos_token in tokenizer_config.json"));
  EXPECT_TRUE(holds(refused("chatml"), "--chat-template chatml ends an answer with <|im_end|>, which is no token"));
  const ScratchFolder folder;
  write_text(folder / "tokenizer_config.json", read_text(goldens + "/zephyr/tokenizer_config.json"));
  EXPECT_TRUE(holds(error_of([&] { find_chat_template(folder.path(), *bare); }), folder.path(),
                    "its chat template writes a token", "eos_token"));
  bare = load_tokenizer("tests/goldens/tokenizers/qwen");  // nor BOS
  EXPECT_TRUE(
      holds(refused("llama-3"), "--chat-template llama-3 writes a token", "bos_token in tokenizer_config.json"));
}

TEST_F(ChatTemplates, AKnownOneThatWasChangedIsNotTakenForItself) {
  const std::string own_system = "{% if messages[0]['role'] != 'system' %}{{ 'Be a pirate.' }}{% endif %}";
  for (const char* name : {"chatml", "phi-3", "granite", "llama-3.1", "llama-3.2", "nemotron"})
    EXPECT_TRUE(holds(not_found({{"chat_template", own_system + jinja_of(name)}}), "none that")) << name;
  const auto changed = [&](const char* name, const std::string& what, const std::string& by) {
    std::string jinja = jinja_of(name);
    EXPECT_TRUE(holds(jinja, what)) << name;
    for (size_t at = jinja.find(what); at != std::string::npos; at = jinja.find(what, at + by.size()))
      jinja.replace(at, what.size(), by);
    EXPECT_TRUE(holds(not_found({{"chat_template", jinja}}), "none that")) << name << ": " << what;
  };
  changed("llama-3.1", " | trim", "");
  changed("llama-3.1", "\\n\\n", "\\n");
  changed("llama-3.1", "bos_token + ", "");
  changed("llama-2", ".strip()", "");
  changed("llama-2", "\\n<</SYS>>\\n\\n", "<</SYS>>\\n");
  changed("llama-2", " + eos_token", "");
  changed("mistral", "message['content'] + eos_token", "message['content'] | trim + eos_token");
  changed("mistral", "+ eos_token", "+ eos_token + ' '");
  changed("phi-3", "|>\\n", "|>");
  changed("nemotron", "'\\n\\n'", "'\\n'");
  changed("chatml", "{{ '\\n' }}", "");
  changed("chatml", "{% endfor %}", "{% endfor %}{{ '\\n' }}");
  changed("granite", "{{ '\\n' }}", "");
  changed("granite", "{% if message", "\n    {% if message['role'] == 'tool' %}{{ 'Tool' }}{% endif %}{% if message");
  changed("llama-2", "{% for", "{% if system is not defined %}{% set system = 'Be kind.' %}{% endif %}{% for");
  changed("phi-3", "{{", "\n    {{");
  changed("zephyr.llama2", "{{ message['content'] + eos_token }}", "{{ message['content'] + eos_token }}\n");
  changed("nemotron", "User\\n' + message['content'].strip()", "User\\n' + message['content']");
  changed("llama-3.1", "message['content'] | trim + '<|eot_id|>' }}{% endgen",
          "message['content'] + '<|eot_id|>' }}{% endgen");
  changed("mistral", "message['content'] + ' [/INST]'", "message['content'].replace('a', 'b') + ' [/INST]'");
  // Loops over some of the messages.
  changed("chatml", "in messages %}", "in messages[-3:] %}");
  changed("chatml", "in messages %}", "in messages if message['role'] != 'assistant' %}");
  changed("chatml", "in messages %}", "in messages | reverse %}");
  changed("chatml", "{% for message in messages %}", "{% set last = messages[-3:] %}{% for message in last %}");
  // Only the last answer lacks its end; a message with no text is left out; an answer is always asked for.
  changed("chatml", "{{ '\\n' }}", "{% if not loop.last %}{{ '\\n' }}{% endif %}");
  changed("chatml", "message['role'] == 'system'", "message['role'] == 'system' and message['content']");
  changed("chatml", "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
          "{{ '<|im_start|>assistant\\n' }}");
  // Tulu's: as Zephyr's, but only answers end with EOS.
  EXPECT_TRUE(holds(
      not_found({{"chat_template",
                  "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|assistant|>\\n' + "
                  "message['content'] + eos_token }}{% elif message['role'] == 'user' %}{{ '<|user|>\\n' + "
                  "message['content'] + '\\n' }}{% else %}{{ '<|system|>\\n' + message['content'] + '\\n' }}{% endif %}"
                  "{% endfor %}"}}),
      "none that"));
}

// Qwen 2.5's branch of the assistant is for answers with tool calls alone, behind one for the others. Where none stands
// before it, it writes the answers.
TEST_F(ChatTemplates, WhatWritesTheAnswersIsRead) {
  const auto chatml = [](const std::string& joint, const std::string& answer) {
    return "{% for message in messages %}{% if message.role == 'user' or message.role == 'system'" + joint +
           " %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
           "{% elif message.role == \"assistant\" %}{{ '<|im_start|>assistant' }}" +
           answer + "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  };
  const auto written = [](const std::string& content, const std::string& end = "<|im_end|>") {
    return "{{ '\n' + " + content + " + '" + end + "\n' }}";
  };
  const auto is_refused = [&](const std::string& jinja) {
    return holds(not_found({{"chat_template", jinja}}), "none that");
  };
  const std::string joint = " or (message.role == \"assistant\" and not message.tool_calls)";
  const std::string thoughtless = written("message.content.split('</think>')[-1].lstrip('\n')");
  EXPECT_EQ(found(chatml(joint, thoughtless)), "chatml");
  EXPECT_EQ(found(chatml("", written("message.content"))), "chatml");
  EXPECT_TRUE(is_refused(chatml("", thoughtless)));
  EXPECT_TRUE(is_refused(chatml("", written("message.content", "<|endoftext|>"))));
  // As in TRL's template for training on Qwen 2.5's.
  const auto without_calls = [](const std::string& answer) {
    return "{% if not message.tool_calls %}" + answer + "{% else %}{{ message.tool_calls }}{% endif %}";
  };
  EXPECT_EQ(found(chatml("", without_calls(written("message.content")))), "chatml");
  EXPECT_TRUE(is_refused(chatml("", without_calls(written("message.content | trim")))));
}

// Blocks and comments take their line's indentation and end with them, outputs only where a dash says so.
TEST_F(ChatTemplates, WhiteSpaceThatIsNotWrittenDoesNotMatter) {
  EXPECT_EQ(found("{# It's ChatML. #}\n"
                  "{% for message in messages %}\n"
                  "    {%- if message.role == \"tool\" %}{{ 'a tool\\'s answer' }}{% endif %}\n"
                  "    {{- \"<|im_start|>\" + message.role }}{{ '\\n' + message['content'] -}}\n"
                  "    {{ '<|im_end|>' }}\n"
                  "  {% endfor %}\n"
                  "{% if add_generation_prompt %}\n"
                  "{{ '<|im_start|>assistant' }}\n"
                  "{% endif %}\n"),
            "chatml");
  EXPECT_EQ(
      found("{% for message in messages %}\n"
            "{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
            "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
            "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n' + message['content'] + eos_token }}\n"
            "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
            "{% endfor %}"),
      "zephyr");
  // What a variable may hold: set once to a text and once to a message's.
  EXPECT_EQ(found("{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
                  "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
                  "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
                  "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"),
            "llama-3");
}

// Phi-3.5's.
TEST_F(ChatTemplates, AnEmptySystemMessageIsLeftOutWhereTheJinjaTextDoesSo) {
  const std::vector<Message> messages{{"system", ""}, {"user", "u"}};
  std::string jinja = jinja_of("phi-3");
  const std::string condition = "message['role'] == 'system'";
  jinja.replace(jinja.find(condition), condition.size(), condition + " and message['content']");
  const ScratchFolder folder;
  write_text(folder / "chat_template.jinja", jinja);
  const auto own = load_tokenizer(goldens + "/phi-3");
  const ChatTemplate chat = find_chat_template(folder.path(), *own);
  EXPECT_EQ(chat.name(), "phi-3");
  EXPECT_EQ(chat.render(messages, true).text, "<|user|>\nu<|end|>\n<|assistant|>\n");
  EXPECT_EQ(find_chat_template("", *own, {"phi-3"}).render(messages, true).text,
            "<|system|>\n<|end|>\n<|user|>\nu<|end|>\n<|assistant|>\n");
}

// The tokens that char_to_token of Hugging Face's `tokenizers` names. The text before the byte would mostly be cut
// otherwise at its end if it stood alone.
TEST(ChatTokens, TheTokenAtAByteIsTheFirstThatEndsBehindIt) {
  struct Case {
    std::string tokenizer, before, behind;
    size_t token;
  };
  for (const auto& [name, before, behind, token] : {
           Case{"llama3", "babun", "kunst", 2},
           Case{"llama3", "  ", "x", 2},
           Case{"llama3", ".  ", "🙈", 3},      // whose first token holds half of it
           Case{"llama3", "🙂", "🙂", 0},  // one token holds both
           Case{"llama2", "\ne\u0301é ", "  .", 6},
           Case{"llama2_metaspace", "  中    ", "babun", 6},
           Case{"llama2_metaspace", "日", "本", 1},
           Case{"qwen", "cafe\u0301  ", "x", 6},  // é is one letter then
           Case{"model_llama2", "a  ", "ba", 3},
       }) {
    const auto tokenizer = load_tokenizer("tests/goldens/tokenizers/" + name);
    const std::string text = before + behind;
    const std::vector<int32_t> ids = tokenizer->encode(text, {.add_special_tokens = false});
    EXPECT_EQ(token_at(*tokenizer, text, before.size(), ids), token) << name << text;
    EXPECT_EQ(token_at(*tokenizer, text, text.size(), ids), ids.size()) << name << text;
  }
}

// Python: [c for c in map(chr, range(0x110000)) if not c.strip()] gives these 29.
TEST(WhiteSpace, IsThatOfPython) {
  EXPECT_EQ(trimmed("\t\n\v\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u1680\u2000\u200a a \u2028b\u2029\u202f\u205f\u3000"),
            "a \u2028b");
  EXPECT_EQ(trimmed("\u200bx\u200b"), "\u200bx\u200b");
  EXPECT_EQ(trimmed(" \n"), "");
}

}  // namespace
}  // namespace llama_tp
