#include "generate/generator.h"

#include <algorithm>

#include "backend/recorder.h"
#include "base/round_up.h"
#include "model/rehearsal.h"

namespace llama_tp {

namespace {

// Of tokens whose past is as long, in these steps, the operations are the same.
constexpr int64_t recorded_keys = 256;

Parameters& allocated(Parameters& parameters, Runtime& runtime) {
  parameters.allocate(runtime.state, runtime.dtype, false, {});
  return parameters;
}

}  // namespace

Generator::Generator(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, Runtime& runtime,
                     int64_t sequences)
    : runtime_(runtime),
      parameters_(config, plan, runtime.tp.rank(), runtime.tp.size()),
      model_(config, allocated(parameters_, runtime), runtime),
      context_(context),
      cache_(model_.push_cache(context * sequences)),
      lengths_(static_cast<size_t>(sequences)),
      logits_(static_cast<size_t>(sequences), std::vector<float>(static_cast<size_t>(config.vocabulary))) {}

Generator::~Generator() {
  if (Recorder* const recorder = recorder_of(runtime_.backend)) recorder->forget();
}

void Generator::feed(std::span<const Feed> feeds) {
  std::vector<Piece> pieces;
  int64_t tokens = 0;
  for (const Feed& whole : feeds) {
    const auto count = static_cast<int64_t>(whole.tokens.size());
    const int64_t length_behind = length(whole.sequence) + count;
    require(length_behind <= context_, "the context of ", context_, " tokens is full; give a larger one with -c");
    for (int64_t begin = 0; begin < count;) {
      const int64_t taken = std::min(prompt_piece - tokens, count - begin);
      const Feed part{whole.sequence, whole.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(taken))};
      begin += taken;
      tokens += taken;
      pieces.push_back({part, begin == count, length_behind});
      if (tokens < prompt_piece) continue;
      forward(pieces, tokens);
      pieces.clear();
      tokens = 0;
    }
  }
  if (tokens > 0) forward(pieces, tokens);
}

void Generator::forward(const std::vector<Piece>& pieces, int64_t tokens) {
  Saved kept(runtime_.step);
  Frame frame(runtime_.step);
  const int64_t hidden = model_.config().hidden;
  std::vector<int64_t> sequences;  // whose logits are asked for,
  std::vector<int32_t> rows;       // and their last tokens
  host_.clear();
  Batch batch = push_batch(runtime_.step, tokens, static_cast<int64_t>(pieces.size()), model_.config().window());
  for (const auto& [feed, ends, length_behind] : pieces) {
    batch.alone.push_back({static_cast<int64_t>(feed.tokens.size()), length_behind});
    host_.append(feed.tokens, {}, length(feed.sequence), feed.sequence * context_);
    lengths_[static_cast<size_t>(feed.sequence)] += static_cast<int64_t>(feed.tokens.size());
    if (!ends) continue;
    sequences.push_back(feed.sequence);
    rows.push_back(static_cast<int32_t>(host_.ids.size()) - 1);
  }
  upload(runtime_.backend, host_, batch);
  const bool a_token_each = tokens == static_cast<int64_t>(rows.size());
  if (a_token_each)
    batch.sequences.longest_key = std::min(context_, round_up(batch.sequences.longest_key, recorded_keys));
  const Tensor x = frame.take(Category::transient, {tokens, hidden}, runtime_.dtype);  // [T, H]
  if (rows.empty()) return model_.infer(batch, &cache_, x);
  const auto n = static_cast<int64_t>(rows.size());
  const Tensor places = frame.take(Category::data, {n}, DType::i32);
  const Tensor last = frame.take(Category::transient, {n, hidden}, runtime_.dtype);  // [n, H]
  runtime_.backend.upload(rows.data(), places);
  const Tensor logits = model_.head().take_logits(frame, n);
  const auto work = [&] {
    model_.infer(batch, &cache_, x);
    runtime_.backend.gather_rows(x, places, last);
    model_.head().gathered_logits(last, logits);
  };
  run(a_token_each, batch, std::cref(work));  // a reference, since a step allocates nothing
  read_logits(sequences, logits);
}

void Generator::run(bool a_token_each, const Batch& batch, const std::function<void()>& work) {
  Recorder* const recorder = recorder_of(runtime_.backend);
  // Where the frequencies of positions follow the length, the host computes them.
  if (!a_token_each || recorder == nullptr || rope_follows_length(model_.config().rope)) return work();
  recorder->repeat({batch.tokens(), batch.sequences.longest_key}, work);
}

void Generator::read_logits(const std::vector<int64_t>& sequences, const Tensor& gathered) {
  gathered_.resize(static_cast<size_t>(gathered.elements()));
  runtime_.backend.download(gathered, gathered_.data());
  const auto n = static_cast<int64_t>(sequences.size());
  for (int64_t i = 0; i < n; i++)
    model_.head().assemble_row(gathered_.data(), n, i, logits(sequences[static_cast<size_t>(i)]));
}

void Generator::rewind(int64_t sequence, int64_t length) {
  int64_t& own = lengths_[static_cast<size_t>(sequence)];
  require(length <= own, "a sequence of ", own, " tokens cannot be rewound to ", length);
  own = length;
}

MemoryPlan plan_generation(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context,
                           const std::vector<int64_t>& prompts, Backend& backend, const Runtime& runtime) {
  return rehearse(backend, runtime, [&](Runtime& rehearsal) {
    const auto count = static_cast<int64_t>(prompts.size());
    Generator generator(config, plan, context, rehearsal, count);
    const std::vector<int32_t> zeros(static_cast<size_t>(*std::max_element(prompts.begin(), prompts.end())));
    std::vector<Feed> feeds;
    for (int64_t s = 0; s < count; s++)
      feeds.push_back({s, std::span(zeros).first(static_cast<size_t>(prompts[static_cast<size_t>(s)]))});
    generator.feed(feeds);
    for (Feed& each : feeds) {
      each.tokens = std::span(zeros).first(1);
      generator.assume_length(each.sequence, context - 1);  // a longer past takes more scratch memory
    }
    for (size_t left = feeds.size(); left > 0; left--) {
      generator.feed(std::span(feeds).first(left));
      for (const Feed& each : std::span(feeds).first(left))
        generator.rewind(each.sequence, generator.length(each.sequence) - 1);
    }
  });
}

}  // namespace llama_tp
