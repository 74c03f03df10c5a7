#include "generate/chat_run.h"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "generate/chat_input.h"
#include "generate/session.h"
#include "io/chat/chat_tokens.h"
#include "io/chat/white_space.h"
#include "model/rehearsal.h"
#include "model/rope.h"

namespace llama_tp {

namespace {

constexpr const char* help =
    "/clear  forget the conversation\n"
    "/exit   leave (as Ctrl-D does)\n"
    "/help   this text\n"
    "Enter, or without mpirun Ctrl-C, stops an answer.\n"
    "Lines that are pasted together are one message, which is sent when its last line ends;\n"
    "what is typed during an answer is the next.";

// Turns have any length. They go through in pieces of powers of two, so that a few shapes are all there are.
std::vector<std::span<const int32_t>> pieces_of(std::span<const int32_t> tokens) {
  std::vector<std::span<const int32_t>> pieces;
  while (!tokens.empty()) {
    const size_t size = std::min(std::bit_floor(tokens.size()), static_cast<size_t>(Generator::prompt_piece));
    pieces.push_back(tokens.first(size));
    tokens = tokens.subspan(size);
  }
  return pieces;
}

MemoryPlan plan_chat(const ModelOnRanks& model, int64_t context) {
  return rehearse(*model.backend, *model.runtime, [&](Runtime& rehearsal) {
    Generator generator(model.config, context, rehearsal);
    const int64_t largest = std::min(context, Generator::prompt_piece);
    const std::vector<int32_t> zeros(std::bit_floor(static_cast<size_t>(largest)));
    for (size_t size = zeros.size(); size > 0; size /= 2) {
      generator.assume_length(0, context - static_cast<int64_t>(size));  // a longer past takes more scratch memory
      generator.feed(std::span(zeros).first(size));
      generator.rewind(0, 0);
    }
  });
}

class ChatRun {
 public:
  ChatRun(const GenerationSettings& settings, const Launch& launch)
      : settings_(settings), launch_(launch), session_(settings, launch) {}

  int run() {
    if (session_.leads()) {
      chat_.emplace(session_.find_chat());
      require(settings_.system.empty() || chat_->takes_system(), "--system: the chat template ", chat_->name(),
              " has no place for a system message; leave it out, and put it into your first message");
      session_.refuse_special(settings_.system);
      clear();
    }
    const int64_t context = session_.settle_context(1);
    session_.open(context, 1, plan_chat(session_.model(), context));
    if (session_.leads())
      lead();
    else
      follow();
    session_.generator().finish();
    return 0;
  }

 private:
  HostGroup& world() const { return session_.model().mesh->world(); }
  bool is_alone() const { return world().size() == 1; }

  void clear() {
    messages_.clear();
    if (!settings_.system.empty()) messages_.push_back({"system", settings_.system});
  }

  // What `wait` returns, which may take as long as a person likes.
  template <class Wait>
  auto await_input(const Wait& wait) const {
    launch_.begin(Activity::awaiting_input);
    auto came = wait();
    launch_.begin(Activity::generating);
    return came;
  }

  // ---- rank 0

  void lead() {
    const bool at_terminal = launch_.stdin_is_terminal();
    ChatInput input(at_terminal, {"/clear", "/exit", "/help"});
    session_.say(text("chat    ", chat_->name(), "; /help tells what there is"));
    while (true) {
      if (at_terminal) Session::write("\n> ");
      const std::optional<std::string> line = await_input([&] { return input.message(); });
      if (!line || *line == "/exit") break;
      if (*line == "/help")
        session_.say(help);
      else if (*line == "/clear")
        clear();
      else if (line->starts_with('/') && line->find('\n') == std::string::npos)
        session_.say(*line + " is no command; /help tells which there are");
      else if (!trimmed(*line).empty())
        turn(*line, input);
    }
    session_.exchange({});  // no more turns
  }

  void turn(const std::string& line, ChatInput& input) {
    const size_t before = messages_.size();
    std::vector<int32_t> tokens;
    try {
      input.refuse_cut_lines(line);
      session_.refuse_special(line);
      messages_.push_back({"user", line});
      tokens = tokenize_chat(session_.tokenizer(), chat_->render(messages_, true)).ids;
      require(static_cast<int64_t>(tokens.size()) <= session_.generator().context(), session_.full_context(),
              "; /clear begins anew");
    } catch (const Error& error) {
      messages_.resize(before);
      session_.say(text("not sent: ", error.what()));
      return;
    }
    session_.exchange(tokens);
    const std::string said = answer(tokens, &input);
    if (trimmed(said).empty())
      messages_.resize(before);
    else
      messages_.push_back({"assistant", chat_->content_of(said)});
  }

  // ---- all ranks

  void follow() {
    const auto next_turn = [&] { return await_input([&] { return session_.exchange({}); }); };
    for (std::vector<int32_t> tokens = next_turn(); !tokens.empty(); tokens = next_turn()) answer(tokens, nullptr);
  }

  // Feeds what the cache does not hold yet of the whole conversation.
  void read(const std::vector<int32_t>& tokens) {
    const auto [own, theirs] = std::mismatch(cached_.begin(), cached_.end(), tokens.begin(), tokens.end() - 1);
    const int64_t longest = std::max(std::ssize(tokens), std::ssize(cached_));
    const int64_t known = turns_all_keys(longest) ? 0 : own - cached_.begin();
    session_.generator().rewind(0, known);
    int64_t behind = std::ssize(tokens) - known;
    for (const std::span<const int32_t> piece : pieces_of(std::span(tokens).last(static_cast<size_t>(behind)))) {
      behind -= std::ssize(piece);
      session_.generator().feed(piece, behind);
    }
    cached_ = tokens;
  }

  // Whether a text of so many tokens has rotary frequencies of its own: keys of one are not those of another.
  bool turns_all_keys(int64_t length) const {
    const ModelConfig& config = session_.model().config;
    return rope_follows_length(config.rope) && length > config.max_positions;
  }

  // Continues the conversation until the answer's end; rank 0 prints it and may stop it. Returns its text there.
  std::string answer(const std::vector<int32_t>& conversation, ChatInput* input) {
    read(conversation);
    std::unique_ptr<StreamDecoder> decoder;
    std::string said;
    const auto print = [&](const std::string& piece) {
      Session::write(piece);
      said += piece;
    };
    if (session_.leads()) {
      decoder = session_.tokenizer().stream_decoder();
      decoder->push_prompt(conversation);
    }
    std::vector<int32_t> tokens = conversation;
    bool is_full = false;
    for (int64_t made = 0; made != settings_.tokens && !is_stopped(input); made++) {
      const int32_t id = session_.choice().id;
      if (session_.is_end(id, true)) break;
      tokens.push_back(id);
      if (session_.leads()) print(decoder->push(id));
      is_full = static_cast<int64_t>(tokens.size()) > session_.generator().context();
      if (is_full) break;
      session_.generator().feed({&id, 1});
      cached_.push_back(id);
    }
    if (session_.leads()) print(decoder->finish());
    if (session_.leads()) Session::write("\n");
    if (is_full) session_.say(session_.full_context());
    return said;
  }

  // Rank 0's wish, known to all before each token.
  bool is_stopped(ChatInput* input) const {
    const bool wish = input != nullptr && input->wants_stop();
    return is_alone() ? wish : world().broadcast(wish ? "1" : "0", 0) == "1";
  }

  const GenerationSettings& settings_;
  const Launch& launch_;
  Session session_;
  std::optional<ChatTemplate> chat_;  // rank 0's
  std::vector<Message> messages_;     // rank 0's
  std::vector<int32_t> cached_;       // tokens whose keys and values the cache holds
};

}  // namespace

int run_chat(const GenerationSettings& settings, const Launch& launch) { return ChatRun(settings, launch).run(); }

}  // namespace llama_tp
