// What a person types: whole lines and, during an answer, the wish to stop it: Enter or Ctrl-C.
#pragma once

#include <optional>
#include <string>

namespace llama_tp {

// At most one at a time: it takes SIGINT.
class ChatInput {
 public:
  // from_terminal: a person sits there, whose Enter during an answer is a wish; else stdin is a file of lines, all of
  // which are messages.
  explicit ChatInput(bool from_terminal);
  ChatInput(const ChatInput&) = delete;
  ChatInput& operator=(const ChatInput&) = delete;
  ~ChatInput();

  // Waits for the next line; none at the end of stdin, or when Ctrl-C came instead.
  std::optional<std::string> line();
  // Whether Enter or Ctrl-C came since the last call of either function.
  bool wants_stop();

 private:
  // Reads what is there, waiting for something first. False at the end.
  bool fill();

  bool from_terminal_;
  std::string waiting_;  // read, and not given yet
};

}  // namespace llama_tp
