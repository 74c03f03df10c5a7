// What a person types: messages and, during an answer, the wish to stop it: Enter, Ctrl-C or Ctrl-D.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace llama_tp {

// At most one at a time: it takes SIGINT.
class ChatInput {
 public:
  // from_terminal: a person sits there, whose Enter during an answer is a wish, and who may paste several lines; else
  // stdin is a file of lines, each of which is a message. commands: lines that are messages of their own wherever they
  // begin a paste.
  ChatInput(bool from_terminal, std::vector<std::string> commands);
  ChatInput(const ChatInput&) = delete;
  ChatInput& operator=(const ChatInput&) = delete;
  ~ChatInput();

  // Waits for the next line, and takes those that come with it for one message, unless it is a command. None at the end
  // of stdin, or when Ctrl-C came instead.
  std::optional<std::string> message();
  // Errors: a line of the message is as long as a terminal lets one be, which drops what is typed behind.
  void refuse_cut_lines(const std::string& message) const;
  // Whether Enter, Ctrl-C or Ctrl-D came since the last call of either function. What was typed before Enter is the next
  // message; there is none behind Ctrl-D.
  bool wants_stop();

 private:
  // Reads what is there, waiting for something first. False at the end.
  bool fill();
  // Reads until nothing has come for so many ms.
  void fill_while_more_comes(int pause);

  bool from_terminal_;
  std::vector<std::string> commands_;
  bool ended_ = false;   // a terminal tells its end (Ctrl-D) once
  std::string waiting_;  // read, and not given yet
};

}  // namespace llama_tp
