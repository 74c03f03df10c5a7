#include "generate/chat_input.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr int paste_pause = 50;        // ms that may lie between two lines of a paste
constexpr size_t longest_line = 4095;  // bytes that Linux keeps of a line while it is edited, without its newline

volatile sig_atomic_t interrupted = 0;

void note(int /*signal*/) { interrupted = 1; }

// SA_RESTART is left out: Ctrl-C ends a read.
void take_sigint(void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigaction(SIGINT, &action, nullptr);
}

std::string without_end(std::string text) {
  text.erase(text.find_last_not_of("\r\n") + 1);
  return text;
}

bool take_interrupt() {
  const bool came = interrupted != 0;
  interrupted = 0;
  return came;
}

}  // namespace

ChatInput::ChatInput(bool from_terminal, std::vector<std::string> commands)
    : from_terminal_(from_terminal), commands_(std::move(commands)) {
  take_sigint(note);
}
ChatInput::~ChatInput() { take_sigint(SIG_DFL); }

bool ChatInput::fill() {
  if (ended_) return false;
  std::array<char, 4096> bytes{};
  const ssize_t count = ::read(STDIN_FILENO, bytes.data(), bytes.size());
  ended_ = count == 0;
  if (count <= 0) return false;
  waiting_.append(bytes.data(), static_cast<size_t>(count));
  return true;
}

// The end of a pipe, as under mpirun, is POLLHUP alone.
void ChatInput::fill_while_more_comes(int pause) {
  pollfd in{STDIN_FILENO, POLLIN, 0};
  while (::poll(&in, 1, pause) > 0 && (in.revents & (POLLIN | POLLHUP)) != 0 && fill()) {
  }
}

std::optional<std::string> ChatInput::message() {
  take_interrupt();
  while (waiting_.find('\n') == std::string::npos)
    if (!fill()) {
      if (take_interrupt() || waiting_.empty() || from_terminal_) return std::nullopt;
      waiting_.push_back('\n');  // a file's last line may lack its end
    }
  if (from_terminal_) fill_while_more_comes(paste_pause);
  const size_t first_end = waiting_.find('\n');
  const bool is_command =
      std::find(commands_.begin(), commands_.end(), without_end(waiting_.substr(0, first_end))) != commands_.end();
  const size_t end = is_command || !from_terminal_ ? first_end : waiting_.rfind('\n');
  const std::string text = without_end(waiting_.substr(0, end));
  waiting_.erase(0, end + 1);
  return text;
}

void ChatInput::refuse_cut_lines(const std::string& message) const {
  if (!from_terminal_) return;
  for (size_t begin = 0; begin < message.size();) {
    const size_t end = std::min(message.find('\n', begin), message.size());
    require(
        end - begin < longest_line, "a terminal passes at most ", with_commas(longest_line),
        " bytes of a line, and one here is so long that its end may be lost; put line ends into it, or send it from "
        "a file");
    begin = end + 1;
  }
}

bool ChatInput::wants_stop() {
  if (take_interrupt()) return true;
  if (!from_terminal_ || ended_) return false;
  fill_while_more_comes(0);
  if (ended_) return true;
  if (waiting_.find('\n') == std::string::npos) return false;
  waiting_.erase(0, waiting_.find_first_not_of("\r\n"));
  return true;
}

}  // namespace llama_tp
