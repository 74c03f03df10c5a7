#include "generate/generator.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "backend/recorder.h"
#include "base/parts.h"
#include "base/random.h"
#include "model/rehearsal.h"

namespace llama_tp {

namespace {

// Of tokens whose past is as long, in these steps, the operations are the same.
constexpr int64_t recorded_keys = 256;

Parameters& allocated(Parameters& parameters, Runtime& runtime) {
  parameters.allocate(runtime.state, runtime.dtype, false, {});
  return parameters;
}

void rehearse_prompts(Generator& generator, const std::vector<int64_t>& lengths) {
  const std::vector<int32_t> zeros(static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end())));
  std::vector<Feed> feeds;
  for (int64_t s = 0; s < std::ssize(lengths); s++) {
    generator.rewind(s, 0);
    feeds.push_back({s, std::span(zeros).first(static_cast<size_t>(lengths[static_cast<size_t>(s)]))});
  }
  generator.feed(feeds);
}

// The last token that fits, as a longer past takes more scratch memory: of all sequences, then of fewer and fewer.
void rehearse_tokens(Generator& generator) {
  const int32_t zero = 0;
  std::vector<Feed> feeds;
  for (int64_t s = 0; s < generator.sequences(); s++) feeds.push_back({s, {&zero, 1}});
  for (; !feeds.empty(); feeds.pop_back()) {
    for (const Feed& each : feeds) generator.assume_length(each.sequence, generator.context() - 1);
    generator.feed(feeds);
  }
}

}  // namespace

Generator::Generator(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, Runtime& runtime,
                     int64_t sequences, const Sampling& sampling)
    : runtime_(runtime),
      parameters_(config, plan, runtime.tp.rank(), runtime.tp.size()),
      model_(config, allocated(parameters_, runtime), runtime),
      context_(context),
      sampling_(sampling),
      cache_(model_.push_cache(context * sequences)),
      past_(static_cast<size_t>(sequences)),
      streams_(static_cast<size_t>(sequences)),
      choices_(static_cast<size_t>(sequences)) {
  std::iota(streams_.begin(), streams_.end(), 0);
  for (std::vector<int32_t>& tokens : past_) tokens.reserve(static_cast<size_t>(context));
}

Generator::~Generator() {
  if (Recorder* const recorder = runtime_.backend.recorder()) recorder->forget();
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
  std::vector<int64_t> sequences;  // whose next token is asked for,
  std::vector<int32_t> rows;       // and their last tokens
  host_.clear();
  Batch batch = push_batch(runtime_.step, tokens, static_cast<int64_t>(pieces.size()), model_.config().window());
  for (const auto& [feed, ends, length_behind] : pieces) {
    batch.alone.push_back({static_cast<int64_t>(feed.tokens.size()), length_behind});
    host_.append(feed.tokens, {}, length(feed.sequence), feed.sequence * context_);
    past(feed.sequence).insert(past(feed.sequence).end(), feed.tokens.begin(), feed.tokens.end());
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
  const Tensor last = frame.take(Category::transient, {n, hidden}, runtime_.dtype);  // [n, H]
  const Tensor logits = model_.head().take_logits(frame, n);
  const Draw draw = take_draw(frame, sequences, rows);
  const auto work = [&] {
    model_.infer(batch, &cache_, x);
    runtime_.backend.gather_rows(x, draw.rows, last);
    model_.head().gathered_logits(last, logits);
    runtime_.backend.sample(logits, model_.config().vocabulary, draw.recent, draw.uniforms, sampling_.options, draw.ids,
                            sampling_.log_probabilities ? draw.chances : Tensor{});
  };
  run(a_token_each, batch, std::cref(work));  // a reference, since a step allocates nothing
  read_choices(sequences, draw);
}

void Generator::run(bool a_token_each, const Batch& batch, const std::function<void()>& work) {
  Recorder* const recorder = runtime_.backend.recorder();
  // Where the frequencies of positions follow the length, the host computes them.
  if (!a_token_each || recorder == nullptr || rope_follows_length(model_.config().rope)) return work();
  recorder->repeat({batch.tokens(), batch.sequences.longest_key}, work);
}

// What the device is told lies in one tensor, since each copy to a device takes longer than a few numbers.
Generator::Draw Generator::take_draw(Frame& frame, const std::vector<int64_t>& sequences,
                                     const std::vector<int32_t>& rows) {
  const int64_t n = std::ssize(sequences), all_recent = n * penalty_window, stride = round_up(n, int64_t{4});
  const Tensor asked = frame.take(Category::data, {all_recent + 2 * stride}, DType::i32);
  const Tensor uniforms = asked.rows(all_recent + stride, n);
  const Draw draw{asked.rows(all_recent, n), asked.rows(0, all_recent).reshaped({n, penalty_window}),
                  Tensor{uniforms.data, DType::f32, uniforms.shape}, frame.take(Category::data, {n}, DType::i32),
                  frame.take(Category::data, {n, 2}, DType::f64)};
  asked_.assign(static_cast<size_t>(asked.elements()), -1);
  for (int64_t i = 0; i < n; i++) {
    const int64_t sequence = sequences[static_cast<size_t>(i)];
    const std::vector<int32_t>& tokens = past(sequence);
    const auto count = std::min<int64_t>(std::ssize(tokens), penalty_window);
    std::copy(tokens.end() - count, tokens.end(), asked_.begin() + i * penalty_window);
    const auto behind_recent = asked_.begin() + all_recent + i;
    behind_recent[0] = rows[static_cast<size_t>(i)];
    const uint64_t stream = streams_[static_cast<size_t>(sequence)];
    behind_recent[stride] = std::bit_cast<int32_t>(random_uniform(sampling_.seed, stream, tokens.size()));
  }
  runtime_.backend.upload(asked_.data(), asked);
  return draw;
}

void Generator::read_choices(const std::vector<int64_t>& sequences, const Draw& draw) {
  ids_.resize(sequences.size());
  chances_.resize(2 * sequences.size());
  runtime_.backend.download(draw.ids, ids_.data());
  if (sampling_.log_probabilities) runtime_.backend.download(draw.chances, chances_.data());
  for (size_t i = 0; i < sequences.size(); i++) {
    Choice& choice = choices_[static_cast<size_t>(sequences[i])];
    choice.id = ids_[i];
    if (sampling_.log_probabilities) choice.log_probability = chances_[2 * i] - std::log(chances_[2 * i + 1]);
  }
}

void Generator::begin(int64_t sequence, uint64_t stream) {
  past(sequence).clear();
  streams_[static_cast<size_t>(sequence)] = stream;
}

void Generator::rewind(int64_t sequence, int64_t length) {
  const int64_t own = this->length(sequence);
  require(length <= own, "a sequence of ", own, " tokens cannot be rewound to ", length);
  past(sequence).resize(static_cast<size_t>(length));
}

MemoryPlan plan_generation(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context,
                           const std::vector<std::vector<int64_t>>& batches, Backend& backend, const Runtime& runtime) {
  return rehearse(backend, runtime, [&](Runtime& rehearsal) {
    size_t sequences = 0;
    for (const std::vector<int64_t>& prompts : batches) sequences = std::max(sequences, prompts.size());
    Generator generator(config, plan, context, rehearsal, static_cast<int64_t>(sequences));
    for (const std::vector<int64_t>& prompts : batches) rehearse_prompts(generator, prompts);
    rehearse_tokens(generator);
  });
}

}  // namespace llama_tp
