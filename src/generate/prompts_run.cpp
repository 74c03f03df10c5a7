// Many prompts, batch after batch: the weights are read once for a token of each prompt of a batch.
#include <algorithm>

#include "base/json.h"
#include "base/parts.h"
#include "generate/generation_run.h"
#include "generate/session.h"
#include "io/chat/chat_tokens.h"
#include "io/json_lines.h"
#include "io/lines.h"
#include "io/read_messages.h"
#include "report/format.h"
#include "report/stopwatch.h"

namespace llama_tp {

namespace {

struct Text {
  std::vector<int32_t> tokens;  // of the prompt, then with what was generated
  size_t prompt = 0;            // tokens of the prompt
  int64_t line = 0;             // of the file; 0: there is none
  bool is_turn = false;         // of a conversation
  std::vector<double> log_probabilities;
  const char* finish = nullptr;  // why it ended
};

// The object of a line that holds one, as it was written.
std::string object_in(std::string_view line) {
  const size_t begin = line.find('{');
  return std::string(line.substr(begin, line.rfind('}') + 1 - begin));
}

// One object of what is in two, as it was written: numbers have all their digits. Neither is empty.
std::string joined(const std::string& first, const std::string& second) {
  return first.substr(0, first.size() - 1) + "," + second.substr(1);
}

class PromptsRun {
 public:
  PromptsRun(const GenerationSettings& settings, const Launch& launch)
      : settings_(settings), session_(settings, launch) {}

  int run() {
    if (session_.leads()) read_prompts();
    exchange_prompts();
    const Text& longest = longest_prompt();
    const int64_t context = session_.settle_context(static_cast<int64_t>(longest.prompt), place_of(longest.line));
    const ModelOnRanks& model = session_.model();
    const MemoryPlan memory =
        plan_generation(model.config, context, lengths_by_batch(), *model.backend, *model.runtime);
    session_.open(context, std::min(settings_.batch_size, std::ssize(texts_)), memory);
    generate();
    return 0;
  }

 private:
  void read_prompts() {
    if (settings_.prompts_file.empty()) {
      const auto [prompt, where] = session_.prompt();
      take(json_text(Json{{"prompt", prompt}}), session_.encode(prompt, where), 0, false);
      return;
    }
    LineReader reader(settings_.prompts_file);
    for (std::vector<Line> lines = reader.next(); !lines.empty(); lines = reader.next())
      for (const Line& line : lines)
        if (line.text.find_first_not_of(" \t\r") != std::string_view::npos) take_line(line);
    require(!texts_.empty(), settings_.prompts_file,
            ": holds no prompts; a line is {\"prompt\": …} or {\"messages\": …}");
  }

  std::string place_of(int64_t line) const { return line == 0 ? "" : text(settings_.prompts_file, ": line ", line); }

  void take_line(const Line& line) {
    try {
      take_object(parse_object(line.text, "prompt or messages"), line);
    } catch (const Error& error) {
      fail(place_of(line.number), ": ", error.what());
    }
  }

  void take_object(const Json& json, const Line& line) {
    refuse_keys_of_answers(json);
    require(json.contains("prompt") != json.contains("messages"), "needs either prompt or messages");
    if (json.contains("prompt")) {
      require(json["prompt"].is_string(), "prompt is no text; give a string");
      take(object_in(line.text), session_.encode(json["prompt"], "prompt"), line.number, false);
      return;
    }
    if (!chat_) chat_.emplace(session_.find_chat());
    const std::vector<Message> messages = read_messages(json);
    for (const Message& message : messages) session_.refuse_special(message.content);
    std::vector<int32_t> ids = tokenize_chat(session_.tokenizer(), chat_->render(messages, true)).ids;
    check_ids(ids, session_.model().config.vocabulary);
    take(object_in(line.text), std::move(ids), line.number, true);
  }

  void refuse_keys_of_answers(const Json& json) const {
    std::vector<const char*> keys{"text", "tokens", "finish_reason"};
    if (settings_.log_probabilities) keys.insert(keys.end(), {"ids", "logprobs"});
    for (const char* const key : keys)
      require(!json.contains(key), "has ", key, ", which the answer writes into the line; give it another name");
  }

  void take(std::string object, std::vector<int32_t> ids, int64_t line, bool is_turn) {
    const size_t length = ids.size();
    texts_.push_back({std::move(ids), length, line, is_turn, {}, nullptr});
    objects_.push_back(std::move(object));
  }

  void exchange_prompts() {
    std::vector<int32_t> lengths, lines, turns, all;
    for (const Text& text : texts_) {
      lengths.push_back(static_cast<int32_t>(text.prompt));
      lines.push_back(static_cast<int32_t>(text.line));
      turns.push_back(text.is_turn ? 1 : 0);
      all.insert(all.end(), text.tokens.begin(), text.tokens.end());
    }
    lengths = session_.exchange(lengths);
    lines = session_.exchange(lines);
    turns = session_.exchange(turns);
    all = session_.exchange(all);
    texts_.clear();
    auto begin = all.begin();
    for (size_t i = 0; i < lengths.size(); i++) {
      texts_.push_back(
          {{begin, begin + lengths[i]}, static_cast<size_t>(lengths[i]), lines[i], turns[i] != 0, {}, nullptr});
      begin += lengths[i];
    }
  }

  const Text& longest_prompt() const {
    return *std::max_element(texts_.begin(), texts_.end(),
                             [](const Text& a, const Text& b) { return a.prompt < b.prompt; });
  }

  // body(first, texts) for each batch and the number of its first prompt.
  template <class Body>
  void each_batch(const Body& body) {
    each_part(std::ssize(texts_), settings_.batch_size, [&](int64_t first, int64_t count) {
      body(first, std::span(texts_).subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
    });
  }

  std::vector<std::vector<int64_t>> lengths_by_batch() {
    std::vector<std::vector<int64_t>> lengths;
    each_batch([&](int64_t, std::span<const Text> batch) {
      lengths.emplace_back();
      for (const Text& text : batch) lengths.back().push_back(static_cast<int64_t>(text.prompt));
    });
    return lengths;
  }

  void generate() {
    const Stopwatch time;
    int64_t made = 0;
    each_batch([&](int64_t first, std::span<Text> batch) { made += continue_batch(first, batch); });
    const double seconds = time.seconds();
    session_.generator().finish();
    session_.say(text("\n", counted(static_cast<int64_t>(texts_.size()), "prompt"), ", ", counted(made, "token"), ", ",
                      fixed(static_cast<double>(made) / seconds, 1), " tokens/s with reading the prompts"));
  }

  // Sequence s goes on with text s. Returns how many tokens were made.
  int64_t continue_batch(int64_t first, std::span<Text> batch) {
    std::vector<Feed> feeds;
    for (int64_t s = 0; s < std::ssize(batch); s++) {
      session_.generator().begin(s, static_cast<uint64_t>(first + s));
      feeds.push_back({s, batch[static_cast<size_t>(s)].tokens});
    }
    int64_t made = 0;
    while (!feeds.empty()) {
      session_.generator().feed(feeds);
      std::vector<Feed> next;
      for (const Feed& each : feeds) {
        Text& text = batch[static_cast<size_t>(each.sequence)];
        made += add_token(each.sequence, text);
        if (text.finish == nullptr) next.push_back({each.sequence, std::span(text.tokens).last(1)});
      }
      feeds = std::move(next);
      if (session_.leads()) print_finished();
    }
    return made;
  }

  // Whether there was one to add; ends the text where none may follow.
  bool add_token(int64_t sequence, Text& text) {
    const auto generated = static_cast<int64_t>(text.tokens.size() - text.prompt);
    if (generated == settings_.tokens) {
      text.finish = "length";
      return false;
    }
    const auto [id, log_probability] = session_.choice(sequence);
    if (session_.is_end(id, text.is_turn)) {
      text.finish = "stop";
      return false;
    }
    text.tokens.push_back(id);
    if (settings_.log_probabilities) text.log_probabilities.push_back(log_probability);
    const int64_t room = session_.room_of(static_cast<int64_t>(text.prompt), session_.generator().context());
    if (generated + 1 == settings_.tokens || static_cast<int64_t>(text.tokens.size()) > room) text.finish = "length";
    return true;
  }

  // In the order of the prompts, as soon as those before are done.
  void print_finished() {
    for (; printed_ < texts_.size() && texts_[printed_].finish != nullptr; printed_++) {
      const Text& text = texts_[printed_];
      const std::vector<int32_t> ids(text.tokens.begin() + static_cast<int64_t>(text.prompt), text.tokens.end());
      OrderedJson answer{{"text", continuation(text)}, {"tokens", ids.size()}, {"finish_reason", text.finish}};
      if (settings_.log_probabilities) {
        answer["ids"] = ids;
        answer["logprobs"] = text.log_probabilities;
      }
      Session::write(joined(objects_[printed_], json_text(answer)) + "\n");
    }
  }

  std::string continuation(const Text& text) const {
    const std::unique_ptr<StreamDecoder> decoder = session_.tokenizer().stream_decoder();
    const std::span<const int32_t> tokens = text.tokens;
    decoder->push_prompt(tokens.first(text.prompt));
    std::string generated;
    for (const int32_t id : tokens.subspan(text.prompt)) generated += decoder->push(id);
    return generated + decoder->finish();
  }

  const GenerationSettings& settings_;
  Session session_;
  std::optional<ChatTemplate> chat_;
  std::vector<std::string> objects_;  // the prompts' lines, of rank 0
  std::vector<Text> texts_;           // of all prompts
  size_t printed_ = 0;
};

}  // namespace

int run_prompts(const GenerationSettings& settings, const Launch& launch) { return PromptsRun(settings, launch).run(); }

}  // namespace llama_tp
