#include "generate/generation_run.h"

#include "generate/session.h"
#include "report/format.h"
#include "report/stopwatch.h"

namespace llama_tp {

namespace {

class GenerationRun {
 public:
  GenerationRun(const GenerationSettings& settings, const Launch& launch)
      : settings_(settings), launch_(launch), session_(settings, launch) {}

  int run() {
    read_prompt();
    context_ = session_.settle_context(prompt_length());
    const ModelOnRanks& model = session_.model();
    session_.open(context_, 1,
                  plan_generation(model.config, context_, {{prompt_length()}}, *model.backend, *model.runtime));
    generate();
    return 0;
  }

 private:
  int64_t prompt_length() const { return static_cast<int64_t>(tokens_.size()); }

  void read_prompt() {
    if (session_.leads()) {
      const auto [text, where] = session_.prompt();
      tokens_ = session_.encode(text, where);
    }
    tokens_ = session_.exchange(tokens_);
  }

  void generate() {
    Generator& generator = session_.generator();
    std::unique_ptr<StreamDecoder> decoder;
    if (session_.leads()) {
      decoder = session_.tokenizer().stream_decoder();
      const std::string prompt = decoder->push_prompt(tokens_);
      if (settings_.echo) Session::write(prompt);
    }
    const Stopwatch prompt_time;
    generator.feed(tokens_);
    const double prompt_seconds = prompt_time.seconds();
    const int64_t prompt = prompt_length();
    const int64_t most = settings_.tokens >= 0 ? settings_.tokens : context_;
    const Stopwatch decode_time;
    int64_t made = 0, fed = 0;
    bool ended = false;
    while (made < most && prompt_length() <= context_) {
      const int32_t id = session_.choice().id;
      ended = session_.is_end(id, false);
      if (ended) break;
      made++;
      tokens_.push_back(id);
      if (session_.leads()) Session::write(decoder->push(id));
      if (made == most || prompt_length() > context_) break;
      generator.feed({&id, 1});
      fed++;
    }
    const double decode_seconds = decode_time.seconds();
    generator.finish();
    if (session_.leads()) Session::write(decoder->finish() + "\n");
    if (!ended && made < most) session_.say(session_.full_context());
    close(prompt, prompt_seconds, fed, decode_seconds);
  }

  void close(int64_t prompt, double prompt_seconds, int64_t fed, double decode_seconds) {
    session_.say(text("\nprompt  ", counted(prompt, "token"), ", ",
                      fixed(static_cast<double>(prompt) / prompt_seconds, 1), " tokens/s"));
    if (fed == 0) return;
    const double rate = static_cast<double>(fed) / decode_seconds;
    session_.say(text("decode  ", counted(fed, "token"), ", ", fixed(rate, 1), " tokens/s",
                      share_of_bandwidth(prompt, fed, decode_seconds)));
  }

  // Of a model that lies in memory, and not in the caches, and of a text that was long enough to be timed.
  std::string share_of_bandwidth(int64_t prompt, int64_t fed, double seconds) {
    constexpr double beyond_caches = 0x1p30, long_enough = 1;
    const double bytes = session_.generator().bytes_read(prompt, fed) * session_.model().mesh->shape().tensor;
    const bool says = bytes / static_cast<double>(fed) >= beyond_caches && seconds >= long_enough;
    if (session_.model().mesh->world().broadcast(says ? "1" : "0", 0) == "0") return "";
    const double machine = bandwidth_of_ranks(seconds), byte_rate = bytes / seconds;
    return text(", ", fixed(byte_rate / 1e9, 2), " GB/s (", fixed(100 * byte_rate / machine, 0), "% of the ",
                fixed(machine / 1e9, 1), " GB/s that these ranks can read)");
  }

  // Measured by all at once, of which ranks that only repeat the others' work do not count. Who has waited for a text of
  // so many seconds does not wait longer for what it is compared with.
  double bandwidth_of_ranks(double most_seconds) {
    HostGroup& world = session_.model().mesh->world();
    world.barrier();
    double sum = 0;
    for (const double rate : world.all_gather(session_.model().backend->read_bandwidth(most_seconds))) sum += rate;
    return sum * session_.model().mesh->shape().tensor / world.size();
  }

  const GenerationSettings& settings_;
  const Launch& launch_;
  Session session_;
  std::vector<int32_t> tokens_;
  int64_t context_ = 0;
};

}  // namespace

int run_generation(const GenerationSettings& settings, const Launch& launch) {
  return GenerationRun(settings, launch).run();
}

}  // namespace llama_tp
