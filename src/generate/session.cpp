#include "generate/session.h"

#include <algorithm>
#include <cstdio>
#include <random>

#include "io/files.h"
#include "io/tokenizer/utf8.h"
#include "model/rope.h"
#include "parallel/host_values.h"
#include "report/format.h"
#include "report/output.h"

namespace llama_tp {

namespace {

// Tokens read of a chat, and without -n behind a prompt: enough for a page or two, small enough for any machine.
constexpr int64_t default_tokens = 4096;

void apply(const GenerationConfig& config, SamplingOptions& options) {
  if (config.temperature) options.temperature = static_cast<float>(*config.temperature);
  if (config.top_p) options.top_p = static_cast<float>(*config.top_p);
  if (config.min_p) options.min_p = static_cast<float>(*config.min_p);
  if (config.repeat_penalty) options.repeat_penalty = static_cast<float>(*config.repeat_penalty);
  if (config.top_k) options.top_k = *config.top_k;
}

}  // namespace

Session::Session(const GenerationSettings& settings, const Launch& launch)
    : settings_(settings),
      launch_(launch),
      model_(settings.model, settings.dtype, {{}, {}, settings.tensor_parallel}, settings.backend, launch,
             settings.family),
      config_(read_generation_config(model_.folder, model_.config.vocabulary)),
      sampling_{settings.sampling, 0, settings.log_probabilities} {
  apply(config_, sampling_.options);
  apply(settings.given, sampling_.options);
  if (!leads()) return;
  tokenizer_ = load_tokenizer(model_.folder);
  require(tokenizer_->needed_rows() <= model_.config.vocabulary, model_.folder, ": the tokenizer has ids up to ",
          tokenizer_->needed_rows() - 1, ", but config.json has vocab_size ", model_.config.vocabulary,
          "; take the tokenizer that belongs to the model");
  for (const std::vector<int64_t>* ids : {&model_.config.eos_ids, &config_.eos_ids})
    for (const int64_t id : *ids) ends_.push_back(static_cast<int32_t>(id));
  if (tokenizer_->eos().has_value()) ends_.push_back(*tokenizer_->eos());
}

void Session::say(const std::string& line) const {
  if (leads()) std::fprintf(stderr, "%s\n", line.c_str());
}

void Session::write(const std::string& piece) {
  std::fwrite(piece.data(), 1, piece.size(), stdout);
  flush_stdout();
}

std::vector<int32_t> Session::exchange(std::vector<int32_t> ids) const {
  broadcast_values(model_.mesh->world(), ids);
  return ids;
}

Session::Prompt Session::prompt() const {
  if (settings_.prompt_file.empty()) return {settings_.prompt, "-p"};
  std::string text(utf8::without_mark(read_text(settings_.prompt_file)));
  const size_t newline = text.ends_with("\r\n") ? 2 : text.ends_with('\n') ? 1 : 0;
  text.resize(text.size() - newline);
  return {text, settings_.prompt_file};
}

// BOS is what the tokenizer's post-processor adds; an empty prompt is BOS alone.
std::vector<int32_t> Session::encode(const std::string& prompt, const std::string& where) const {
  std::vector<int32_t> ids;
  try {
    ids = tokenizer_->encode(prompt, {.add_special_tokens = true, .parse_special_tokens = settings_.special});
    check_ids(ids, model_.config.vocabulary);
  } catch (const Error& error) {
    fail(where, ": ", error.what());
  }
  if (!ids.empty()) return ids;
  const std::optional<int32_t> bos = tokenizer_->bos();
  const int64_t id = bos.has_value() ? *bos : model_.config.bos_id.value_or(-1);
  require(id >= 0, where,
          ": an empty prompt starts from BOS, but neither the tokenizer nor config.json has one; give it text");
  return {static_cast<int32_t>(id)};
}

void Session::refuse_special(const std::string& message) const {
  const auto encoded = [&](bool parse) {
    return tokenizer_->encode(message, {.add_special_tokens = false, .parse_special_tokens = parse});
  };
  require(settings_.special || encoded(true) == encoded(false),
          "a message holds the name of a special token; leave it out, or start with --special to have it taken as one");
}

ChatTemplate Session::find_chat() {
  ChatTemplate chat =
      find_chat_template(model_.folder, *tokenizer_, settings_.chat_template.or_else(model_.config.chat_template));
  for (const std::string& stop : chat.stops()) turn_ends_.push_back(tokenizer_->id_of(stop).value());
  return chat;
}

int64_t Session::settle_context(int64_t longest_prompt, const std::string& where) const {
  const int64_t positions = trained_positions(model_.config);
  const bool stretches = model_.config.rope.kind == RopeKind::dynamic;
  const int64_t behind = settings_.tokens >= 0 ? settings_.tokens : default_tokens;
  const int64_t wanted = settings_.chat ? default_tokens : longest_prompt + behind;
  const int64_t context = settings_.context > 0 ? settings_.context : stretches ? wanted : std::min(positions, wanted);
  require(longest_prompt <= context, where, where.empty() ? "" : ": ", "the prompt has ",
          counted(longest_prompt, "token"), ", but the context only ", context,
          settings_.context > 0 ? "; give a larger one with -c"
                                : ", the model's positions; shorten it, or force a larger -c");
  if (context > positions && !stretches)
    say(text("context ", context, " is longer than the model's ", positions,
             " positions; expect worse text beyond them"));
  const int64_t room = room_of(longest_prompt, context);
  if (room < context)
    say(text("the context ends after ", room, " tokens, where longrope changes the frequencies of all keys; ",
             settings_.chat ? "a chat does not go past them" : "only a longer prompt goes past them"));
  return room;
}

int64_t Session::room_of(int64_t prompt, int64_t context) const {
  const RopeConfig& rope = model_.config.rope;
  const bool ends = rope.kind == RopeKind::longrope && prompt <= rope.original_max_positions;
  return ends ? std::min(context, rope.original_max_positions) : context;
}

void Session::open(int64_t context, int64_t sequences, const MemoryPlan& memory) {
  ends_ = exchange(ends_);
  turn_ends_ = exchange(turn_ends_);
  // The same of all: hosts may have a generation_config.json of their own each.
  if (leads()) sampling_.seed = settings_.seed.value_or(std::random_device{}());
  sampling_ = gather_values(model_.mesh->world(), sampling_).front();
  model_.runtime->reserve(memory, MemoryUse::generation);
  generator_ = std::make_unique<Generator>(model_.config, context, *model_.runtime, sequences, sampling_);
  launch_.begin(Activity::loading_weights);
  model_.load(launch_, generator_->parameters());
  launch_.begin(Activity::generating);
  introduce(context, sequences, memory);
}

void Session::introduce(int64_t context, int64_t sequences, const MemoryPlan& memory) const {
  const std::string repeated = repeated_work(model_.config, model_.mesh->shape().tensor, launch_.size());
  for (const std::string& line : {repeated, tensor_ranks_apart(launch_, model_.config, model_.mesh->shape())})
    if (!line.empty()) say(line);
  for (const std::string& line : left_out_of(model_.config)) say(line);
  if (!config_.left_out.empty()) say(config_.left_out);
  say(text("model   ", model_.folder, ": ", with_commas(parameter_count(model_.config)), " parameters in ",
           torch_name_of(model_.runtime->dtype), ", tensor-parallel ", model_.mesh->shape().tensor));
  say(text("device  ", model_.backend->description()));
  say(text("memory  ", bytes_text(memory.total()), " a rank: ", bytes_text(memory.state), " weights, ",
           bytes_text(memory.cache), " keys and values of ", sequences > 1 ? text(sequences, " × ") : "", context,
           " tokens, ", bytes_text(memory.step), " for a step"));
  const SamplingOptions& options = sampling_.options;
  const std::string penalty = options.repeat_penalty == 1 ? "" : text(", repeat penalty ", options.repeat_penalty);
  if (options.temperature <= 0) return say("sampler temperature 0: the most likely token" + penalty);
  say(text("sampler temperature ", options.temperature, ", top-k ", options.top_k, ", top-p ", options.top_p,
           ", min-p ", options.min_p, penalty));
  say(text("seed    ", sampling_.seed));
}

const Choice& Session::choice(int64_t sequence) {
  const Choice& choice = generator_->choice(sequence);
  if (choice.id < 0) model_.fail_not_finite("logits are", generator_->parameters());
  return choice;
}

bool Session::is_end(int32_t id, bool in_conversation) const {
  const auto is_among = [&](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  return !settings_.ignore_eos && (is_among(ends_) || (in_conversation && is_among(turn_ends_)));
}

std::string Session::full_context() const {
  const int64_t context = generator_->context();
  const bool can_grow = room_of(context, context + 1) > context;
  return text("the context of ", context, " tokens is full",
              can_grow ? "; give a larger one with -c" : ", and with longrope no -c gives a larger one");
}

}  // namespace llama_tp
