// Conversations as the text that a model was trained on. A chat template is data, a JSON file in src/io/chat/templates,
// recognised by what the Jinja text that comes with a tokenizer can write (jinja_outputs.h); no Jinja is run. A new
// template is a new file there:
//   marks                   what must stand in the Jinja text beside that: an output may come twice, so that one line end
//                           would do for two (" and ' are the same, and a line's end is one however it is spelt)
//   unreached               conditions in the Jinja text that do not hold here, for instance that there are tools; an
//                           else is "else CONDITION". What the other branches can write must be what the data below say
//   unreached_behind        conditions that do not hold here behind another of the same if that has this in it
//   begin, end              what stands before the first message and, without a generation prompt, behind the last
//   system, user            a message; {content} is its text, {bos} and {eos} are the tokenizer's, {today} is the date
//   without_system          in the place of a system message where there is none
//   default_systems         texts of a system message where there is none: the longest that stands in the Jinja text
//   if_system               the condition in the Jinja text that leaves out a system message that is empty, if it is there
//   first_user_with_system  the first user's {content} where the {system} message stands in it
//   assistant               [before, learned, behind]: what a model learns to write is the middle
//   generation              what asks for an answer;  stops: tokens that end one, beside EOS
//   trim                    true: white space around each text is left out, and the Jinja text trims or strips
// Left out, a text is "".
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/chat/jinja_outputs.h"
#include "io/tokenizer/tokenizer.h"

namespace llama_tp {

struct Message {
  std::string role, content;
};

// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin = 0, end = 0;
};

struct RenderedChat {
  std::string text;
  std::vector<ByteRange> learned;  // what the assistant wrote, each with the token that ends it, if it has one
};

// The key of a checkpoint's config.json that keeps the name of the template that its run was told to take.
inline constexpr const char* chat_template_key = "llama_tp_chat_template";

// A known template by its name, and who gives it, for errors: an option, or a key of a file.
struct ChatTemplateChoice {
  std::string name = {};  // "": none was chosen, and the tokenizer's own is taken
  std::string given_by = "--chat-template";

  const ChatTemplateChoice& or_else(const ChatTemplateChoice& other) const { return name.empty() ? other : *this; }
};

// "03 Feb 2025", by the clock: Jinja's strftime_now("%d %b %Y") in English.
std::string today();

class ChatTemplate {
 public:
  // A conversation is at most one system message, first, then user and assistant in turn. Errors: anything else, an
  // unknown role, an empty answer, a system message where the template has no place for one.
  RenderedChat render(const std::vector<Message>& messages, bool add_generation_prompt) const;
  // The content of the message that renders to the answer that a model gave behind a generation prompt: without what the
  // template writes in front of it.
  std::string content_of(const std::string& answer) const;

  const std::string& name() const { return name_; }
  bool takes_system() const { return !system_.empty() || !first_user_with_system_.empty(); }
  // As today(), which it is unless set.
  void set_today(std::string date) { today_ = std::move(date); }
  const std::vector<std::string>& stops() const { return stops_; }

 private:
  friend ChatTemplate find_chat_template(const std::string&, const Tokenizer&, const ChatTemplateChoice&);
  ChatTemplate(std::string name, const std::string& content, const std::string& jinja);
  // plain: the same Jinja text with one spelling of literals.
  bool is_written_by(const std::string& jinja, const std::string& plain) const;
  // Takes the tokens that the texts write. Errors begin with `where`: the tokenizer lacks one, or one that ends an answer.
  void set_tokens(const Tokenizer& tokenizer, const std::string& where);
  bool writes(const std::string& mark) const;
  std::string filled(std::string form, const std::string& content) const;
  std::string text_of(const Message& message) const;

  std::string name_;
  std::vector<std::string> marks_, stops_;
  JinjaConditions conditions_;
  std::string begin_, system_, without_system_, first_user_with_system_, user_, generation_, end_;
  std::array<std::string, 3> assistant_;
  std::string default_system_, if_system_;
  bool trims_ = false;
  std::string bos_, eos_, today_;
};

// The template of a tokenizer's folder (chat_template.jinja, else tokenizer_config.json), or the one that was
// chosen. Errors: no such name; no template in the folder, or one that is not known;
// a tokenizer without the tokens of the template.
ChatTemplate find_chat_template(const std::string& folder, const Tokenizer& tokenizer,
                                const ChatTemplateChoice& choice = {});

}  // namespace llama_tp
