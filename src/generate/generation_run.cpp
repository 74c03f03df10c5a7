#include "generate/generation_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>

#include "backend/cpu/bandwidth.h"
#include "generate/generator.h"
#include "io/files.h"
#include "io/tokenizer/tokenizer.h"
#include "model/loaded.h"
#include "report/format.h"
#include "report/output.h"

namespace llama_tp {

namespace {

using Clock = std::chrono::steady_clock;

// Without -n and -c: enough for a page or two, small enough for any machine.
constexpr int64_t default_context = 4096;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

std::vector<int32_t> exchange_ids(const std::vector<int32_t>& ids, HostGroup& group) {
  const std::string bytes =
      group.broadcast({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)}, 0);
  std::vector<int32_t> all(bytes.size() / sizeof(int32_t));
  std::memcpy(all.data(), bytes.data(), bytes.size());
  return all;
}

class GenerationRun {
 public:
  GenerationRun(GenerationSettings settings, const Launch& launch)
      : settings_(std::move(settings)),
        launch_(launch),
        model_(settings_.model, settings_.dtype, {{}, {}, settings_.tensor_parallel}, settings_.backend, launch,
               settings_.family) {}

  int run() {
    read_prompt();
    settle_context();
    settle_seed();
    const MemoryPlan memory =
        plan_generation(model_.config, model_.plan, context_, prompt_length(), *model_.backend, *model_.runtime);
    model_.runtime->reserve(memory);
    generator_ = std::make_unique<Generator>(model_.config, model_.plan, context_, *model_.runtime);
    model_.load(generator_->parameters());
    introduce(memory);
    generate();
    return 0;
  }

 private:
  bool leads() const { return launch_.rank() == 0; }
  int64_t prompt_length() const { return static_cast<int64_t>(tokens_.size()); }
  void say(const std::string& line) const {
    if (leads()) std::fprintf(stderr, "%s\n", line.c_str());
  }

  // BOS is what the tokenizer's post-processor adds; an empty prompt is BOS alone.
  void read_prompt() {
    if (leads()) {
      tokenizer_ = load_tokenizer(model_.folder);
      require(tokenizer_->vocabulary_size() <= model_.config.vocabulary, model_.folder,
              ": the tokenizer has ids up to ", tokenizer_->vocabulary_size() - 1, ", but config.json has vocab_size ",
              model_.config.vocabulary);
      tokens_ = tokens_of_prompt();
      if (tokens_.empty()) tokens_ = first_token();
    }
    tokens_ = exchange_ids(tokens_, model_.mesh->world());
    std::vector<int32_t> ends;
    if (leads()) {
      for (const int64_t id : model_.config.eos_ids) ends.push_back(static_cast<int32_t>(id));
      if (tokenizer_->eos().has_value()) ends.push_back(*tokenizer_->eos());
    }
    ends_ = exchange_ids(ends, model_.mesh->world());
  }

  std::vector<int32_t> tokens_of_prompt() const {
    const bool from_file = !settings_.prompt_file.empty();
    const std::string prompt = from_file ? read_text(settings_.prompt_file) : settings_.prompt;
    try {
      return tokenizer_->encode(prompt, {.add_special_tokens = true, .parse_special_tokens = true});
    } catch (const Error& error) {
      fail(from_file ? settings_.prompt_file : "-p", ": ", error.what());
    }
  }

  std::vector<int32_t> first_token() const {
    const std::optional<int32_t> bos = tokenizer_->bos();
    const int64_t id = bos.has_value() ? *bos : model_.config.bos_id.value_or(-1);
    require(id >= 0,
            "an empty prompt starts from BOS, but neither the tokenizer nor config.json has one; give -p TEXT");
    return {static_cast<int32_t>(id)};
  }

  void settle_context() {
    const int64_t positions = model_.config.max_positions;
    const bool stretches = model_.config.rope.kind == RopeKind::dynamic;
    const int64_t wanted =
        settings_.tokens >= 0 ? prompt_length() + settings_.tokens : std::max(prompt_length() + 1, default_context);
    context_ = settings_.context > 0 ? settings_.context : stretches ? wanted : std::min(positions, wanted);
    require(prompt_length() <= context_, "the prompt has ", counted(prompt_length(), "token"),
            ", but the context only ", context_,
            settings_.context > 0 ? "; give a larger one with -c"
                                  : ", the model's max_position_embeddings; shorten it, or force a larger -c");
    if (context_ > positions && !stretches)
      say(text("context ", context_, " is longer than the model's ", positions,
               " positions; expect worse text beyond them"));
  }

  void settle_seed() {
    const uint64_t drawn = leads() ? settings_.seed.value_or(std::random_device{}()) : 0;
    settings_.sampler.seed = std::stoull(model_.mesh->world().broadcast(std::to_string(drawn), 0));
  }

  void introduce(const MemoryPlan& memory) const {
    if (!model_.placement_said.empty()) say(model_.placement_said);
    say(text("model   ", model_.folder, ": ", with_commas(parameter_count(model_.config)), " parameters in ",
             torch_name_of(model_.runtime->dtype), ", tensor-parallel ",
             model_.mesh->shape().tensor));
    say(text("device  ", model_.backend->description()));
    say(text("memory  ", bytes_text(memory.total()), " a rank: ", bytes_text(memory.state), " weights, ",
             bytes_text(memory.cache), " keys and values of ", context_, " tokens, ", bytes_text(memory.step),
             " for a step"));
    if (settings_.sampler.temperature > 0) say(text("seed    ", settings_.sampler.seed));
  }

  void write(const std::string& piece) const {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    flush_stdout();
  }

  bool is_end(int32_t id) const {
    return !settings_.ignore_eos && std::find(ends_.begin(), ends_.end(), id) != ends_.end();
  }

  void generate() {
    Sampler sampler(settings_.sampler);
    std::unique_ptr<StreamDecoder> decoder;
    if (leads()) {
      decoder = tokenizer_->stream_decoder();
      for (const int32_t id : tokens_) {
        const std::string piece =
            decoder->push(id);  // the decoder has to see the prompt: what follows may depend on it
        if (settings_.echo) write(piece);
      }
    }
    const auto prompt_begin = Clock::now();
    generator_->feed(tokens_);
    const double prompt_seconds = seconds_since(prompt_begin);
    const int64_t prompt = prompt_length();
    const int64_t most = settings_.tokens >= 0 ? settings_.tokens : context_;
    const auto decode_begin = Clock::now();
    int64_t made = 0, fed = 0;
    bool ended = false;
    while (made < most && prompt_length() <= context_) {
      if (!std::all_of(generator_->logits().begin(), generator_->logits().end(),
                       [](float logit) { return std::isfinite(logit); }))
        model_.fail_not_finite("logits are", generator_->parameters());
      const int32_t id = sampler.sample(generator_->logits(), tokens_, 0, static_cast<uint64_t>(prompt_length()));
      ended = is_end(id);
      if (ended) break;
      made++;
      tokens_.push_back(id);
      if (leads()) write(decoder->push(id));
      if (made == most || prompt_length() > context_) break;
      generator_->feed({&id, 1});
      fed++;
    }
    const double decode_seconds = seconds_since(decode_begin);
    if (leads()) write(decoder->finish() + "\n");
    if (!ended && made < most) say(text("the context of ", context_, " tokens is full; give a larger one with -c"));
    close(prompt, prompt_seconds, fed, decode_seconds);
  }

  // What one token reads: the weights but the embedding's rows, and the keys and values so far; all ranks together.
  double bytes_of_token() const {
    double bytes = 0;
    for (const Weight& weight : generator_->parameters().weights())
      if (weight.name != "embedding" || model_.config.tied) bytes += static_cast<double>(weight.value.bytes());
    const double share = static_cast<double>(generator_->length()) / static_cast<double>(context_);
    bytes += share * static_cast<double>(model_.runtime->cache.high_water());
    return bytes * launch_.size();
  }

  void close(int64_t prompt, double prompt_seconds, int64_t fed, double decode_seconds) {
    model_.mesh->world().barrier();
    double machine = 0;
    for (const double rate : model_.mesh->world().all_gather(measure_read_bandwidth(launch_.threads())))
      machine += rate;
    const double token_rate = static_cast<double>(fed) / decode_seconds, byte_rate = token_rate * bytes_of_token();
    say(text("\nprompt  ", counted(prompt, "token"), ", ", fixed(static_cast<double>(prompt) / prompt_seconds, 1),
             " tokens/s"));
    if (fed > 0)
      say(text("decode  ", counted(fed, "token"), ", ", fixed(token_rate, 1), " tokens/s, ", fixed(byte_rate / 1e9, 2),
               " GB/s (", fixed(100 * byte_rate / machine, 0), "% of the ", fixed(machine / 1e9, 1),
               " GB/s that these ranks can read)"));
  }

  GenerationSettings settings_;
  const Launch& launch_;
  ModelOnRanks model_;
  std::unique_ptr<Tokenizer> tokenizer_;  // rank 0's
  std::vector<int32_t> tokens_, ends_;
  int64_t context_ = 0;
  std::unique_ptr<Generator> generator_;
};

}  // namespace

int run_generation(GenerationSettings settings, const Launch& launch) {
  return GenerationRun(std::move(settings), launch).run();
}

}  // namespace llama_tp
