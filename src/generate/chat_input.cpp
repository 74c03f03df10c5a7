#include "generate/chat_input.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace llama_tp {

namespace {

volatile sig_atomic_t interrupted = 0;

void note(int /*signal*/) { interrupted = 1; }

// SA_RESTART is left out: Ctrl-C ends a read.
void take_sigint(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(SIGINT, &action, nullptr);
}

bool take_interrupt() {
  const bool came = interrupted != 0;
  interrupted = 0;
  return came;
}

}  // namespace

ChatInput::ChatInput(bool from_terminal) : from_terminal_(from_terminal) { take_sigint(note); }
ChatInput::~ChatInput() { take_sigint(SIG_DFL); }

bool ChatInput::fill() {
  std::array<char, 4096> bytes{};
  const ssize_t count = ::read(STDIN_FILENO, bytes.data(), bytes.size());
  if (count <= 0) return false;
  waiting_.append(bytes.data(), static_cast<size_t>(count));
  return true;
}

std::optional<std::string> ChatInput::line() {
  take_interrupt();
  size_t end = waiting_.find('\n');
  while (end == std::string::npos) {
    if (!fill()) {
      if (take_interrupt() || waiting_.empty()) return std::nullopt;
      end = waiting_.size();  // the last line may lack its end
      waiting_.push_back('\n');
    } else {
      end = waiting_.find('\n');
    }
  }
  std::string text = waiting_.substr(0, end);
  waiting_.erase(0, end + 1);
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

bool ChatInput::wants_stop() {
  if (take_interrupt()) return true;
  if (!from_terminal_) return false;
  pollfd in{STDIN_FILENO, POLLIN, 0};
  while (::poll(&in, 1, 0) > 0 && (in.revents & POLLIN) != 0 && fill()) {
  }
  const size_t end = waiting_.rfind('\n');
  if (end == std::string::npos) return false;
  waiting_.erase(0, end + 1);
  return true;
}

}  // namespace llama_tp
