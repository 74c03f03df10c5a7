#include "generate/generator.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "backend/recorder.h"
#include "base/parts.h"
#include "base/random.h"
#include "io/tokenizer/tokenizer.h"
#include "model/rehearsal.h"
#include "model/rope.h"

namespace llama_tp {

namespace {

// Of tokens whose past is as long, in these steps, the operations are the same.
constexpr int64_t keys_of_recording = 256;

// The numbers of Draw::chosen, as i32: n ids, then n pairs of f64.
constexpr int64_t chances_behind(int64_t n) { return round_up(n, int64_t{2}); }
constexpr int64_t chosen_numbers(int64_t n) { return chances_behind(n) + 4 * n; }

void rehearse_prompts(Generator& generator, const std::vector<int64_t>& lengths) {
  const std::vector<int32_t> zeros(static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end())));
  std::vector<Feed> feeds;
  for (int64_t s = 0; s < std::ssize(lengths); s++) {
    generator.rewind(s, 0);
    feeds.push_back({s, std::span(zeros).first(static_cast<size_t>(lengths[static_cast<size_t>(s)]))});
  }
  generator.feed(feeds);
}

// The last token that fits, as a longer past takes more scratch memory: of as many sequences as go through in one
// forward, then of fewer and fewer.
void rehearse_tokens(Generator& generator) {
  const int32_t zero = 0;
  std::vector<Feed> feeds;
  const int64_t most = std::min(generator.sequences(), Generator::prompt_piece);
  for (int64_t s = 0; s < most; s++) feeds.push_back({s, {&zero, 1}});
  for (; !feeds.empty(); feeds.pop_back()) {
    for (const Feed& each : feeds) generator.assume_length(each.sequence, generator.context() - 1);
    generator.feed(feeds);
  }
}

}  // namespace

Generator::Generator(const ModelConfig& config, int64_t context, Runtime& runtime, int64_t sequences,
                     const Sampling& sampling)
    : runtime_(runtime),
      parameters_(config, runtime.groups.tensor.rank(), runtime.groups.tensor.size()),
      model_(config, parameters_.allocate(runtime, Holds::weights), runtime),
      context_(context),
      sampling_(sampling),
      cache_(model_.push_cache(context * sequences)),
      past_(static_cast<size_t>(sequences)),
      streams_(static_cast<size_t>(sequences)),
      choices_(static_cast<size_t>(sequences)) {
  std::iota(streams_.begin(), streams_.end(), 0);
  if (!runtime.state.rehearses())
    for (Past& past : past_) past.tokens.reserve(static_cast<size_t>(context));
  for (std::unique_ptr<Delivery>* delivery : {&coming_, &behind_})
    *delivery = runtime.backend.make_delivery(chosen_numbers(sequences) * size_of(DType::i32));
}

Generator::~Generator() {
  behind_.reset();  // waits where nobody has called finish
  if (Recorder* const recorder = runtime_.backend.recorder()) recorder->forget();
}

// Where the frequencies of positions follow the length, the host computes them.
bool Generator::is_recorded() const {
  return runtime_.backend.recorder() != nullptr && !rope_follows_length(model_.config().rope);
}

void Generator::feed(std::span<const Feed> feeds) {
  Pieces pieces;
  int64_t tokens = 0;
  for (const Feed& whole : feeds) {
    const auto count = static_cast<int64_t>(whole.tokens.size());
    const int64_t length_behind = length(whole.sequence) + count + whole.behind;
    require(length_behind <= context_, "the context of ", context_, " tokens is full; give a larger one with -c");
    check_ids(whole.tokens, model_.config().vocabulary);
    for (int64_t begin = 0; begin < count;) {
      const int64_t taken = std::min(prompt_piece - tokens, count - begin);
      const Feed part{whole.sequence, whole.tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(taken))};
      begin += taken;
      tokens += taken;
      pieces.push_back({part, begin == count, length_behind});
      if (tokens < prompt_piece) continue;
      forward(pieces, pieces.size() == feeds.size());
      pieces.clear();
      tokens = 0;
    }
  }
  if (tokens > 0) forward(pieces, pieces.size() == feeds.size());
}

void Generator::finish() {
  behind_->finish();
  begun_.clear();
}

void Generator::forward(const Pieces& pieces, bool is_of_all) {
  PushScope kept(runtime_.step);
  Frame frame(runtime_.step);
  Forward forward = take_forward(frame, pieces);
  std::vector<int64_t> sequences;  // whose choices come
  if (has_begun(pieces)) {
    sequences = begun_;
    std::swap(coming_, behind_);
  } else {
    for (const Piece& piece : pieces)
      if (piece.ends) sequences.push_back(piece.feed.sequence);
    tell(forward, pieces);
    ask(forward, is_a_token_each(pieces), *coming_);
  }
  begun_.clear();
  for (const auto& [feed, ends, length_behind] : pieces)
    past(feed.sequence).tokens.insert(past(feed.sequence).tokens.end(), feed.tokens.begin(), feed.tokens.end());
  if (is_of_all && goes_on(pieces, sequences)) begin_next(forward, sequences);
  read_choices(pieces, sequences);
}

Generator::Forward Generator::take_forward(Frame& frame, const Pieces& pieces) {
  int64_t tokens = 0, choices = 0;
  for (const Piece& piece : pieces) {
    tokens += std::ssize(piece.feed.tokens);
    choices += piece.ends ? 1 : 0;
  }
  const int64_t hidden = model_.config().hidden;
  Forward forward;
  forward.batch = push_batch(runtime_.step, tokens, std::ssize(pieces), model_.config().window());
  forward.x = frame.take(Category::transient, {tokens, hidden}, runtime_.dtype);  // [T, H]
  if (choices == 0) return forward;
  forward.last = frame.take(Category::transient, {choices, hidden}, runtime_.dtype);  // [n, H]
  forward.logits = model_.head().take_logits(frame, choices);
  forward.draw = take_draw(frame, choices);
  return forward;
}

// What the device is told lies in one tensor, and so does what it tells, since each copy takes longer than a few numbers.
Generator::Draw Generator::take_draw(Frame& frame, int64_t n) const {
  const int64_t all_recent = n * penalty_window, stride = round_up(n, int64_t{4});
  Draw draw;
  draw.asked = frame.take(Category::data, {all_recent + 2 * stride}, DType::i32);
  draw.recent = draw.asked.rows(0, all_recent).reshaped({n, penalty_window});
  draw.rows = draw.asked.rows(all_recent, n);
  draw.uniforms = {draw.asked.rows(all_recent + stride, n).data, DType::f32, {n}};
  const Tensor chosen = frame.take(Category::data, {chosen_numbers(n)}, DType::i32);
  draw.ids = chosen.rows(0, n);
  draw.chosen = sampling_.log_probabilities ? chosen : draw.ids;
  if (sampling_.log_probabilities) draw.chances = {chosen.rows(chances_behind(n), 4 * n).data, DType::f64, {n, 2}};
  return draw;
}

void Generator::tell(Forward& forward, const Pieces& pieces) {
  host_.clear();
  for (const auto& [feed, ends, length_behind] : pieces)
    host_.append(feed.tokens, {}, length(feed.sequence), feed.sequence * context_, length_behind);
  upload(runtime_.backend, host_, forward.batch);
  if (is_a_token_each(pieces)) forward.batch.sequences.longest_key = recorded_keys(forward.batch.sequences.longest_key);
  if (forward.logits.exists()) tell_draw(forward.draw, pieces);
}

void Generator::tell_draw(const Draw& draw, const Pieces& pieces) {
  asked_.assign(static_cast<size_t>(draw.asked.elements()), -1);
  const auto place_of = [&](const Tensor& part) {
    return asked_.begin() + (part.as<int32_t>() - draw.asked.as<int32_t>());
  };
  auto recent = place_of(draw.recent), row = place_of(draw.rows), uniform = place_of(draw.uniforms);
  int32_t tokens = 0;
  for (const auto& [feed, ends, length_behind] : pieces) {
    tokens += static_cast<int32_t>(feed.tokens.size());
    if (!ends) continue;
    auto to = recent + penalty_window;  // the newest last
    for (const std::span<const int32_t> part : {feed.tokens, std::span<const int32_t>(past(feed.sequence).tokens)})
      to = std::copy_backward(part.end() - std::min(std::ssize(part), to - recent), part.end(), to);
    recent += penalty_window;
    *row++ = tokens - 1;
    const auto length_with_feed = static_cast<uint64_t>(length(feed.sequence) + std::ssize(feed.tokens));
    *uniform++ = std::bit_cast<int32_t>(
        random_uniform(sampling_.seed, streams_[static_cast<size_t>(feed.sequence)], length_with_feed));
  }
  runtime_.backend.upload(asked_.data(), draw.asked);
}

void Generator::ask(const Forward& forward, bool a_token_each, Delivery& delivery) {
  const Draw& draw = forward.draw;
  if (!forward.logits.exists()) return model_.infer(forward.batch, &cache_, forward.x);
  const auto work = [&] {
    model_.infer(forward.batch, &cache_, forward.x);
    runtime_.backend.gather_rows(forward.x, draw.rows, forward.last);
    model_.head().gathered_logits(forward.last, forward.logits);
    runtime_.backend.sample(forward.logits, model_.config().vocabulary, draw.recent, draw.uniforms, sampling_.options,
                            draw.ids, draw.chances);
  };
  const std::vector<int64_t> key{forward.batch.tokens(), forward.batch.sequences.longest_key};
  if (a_token_each && is_recorded())
    runtime_.backend.recorder()->repeat(key, std::cref(work));  // a reference, since a step allocates nothing
  else
    work();
  delivery.ask(draw.chosen);
}

int64_t Generator::recorded_keys(int64_t longest) const {
  return std::min(context_, round_up(longest, keys_of_recording));
}

bool Generator::is_a_token_each(const Pieces& pieces) {
  return std::all_of(pieces.begin(), pieces.end(),
                     [](const Piece& piece) { return piece.ends && piece.feed.tokens.size() == 1; });
}

bool Generator::has_begun(const Pieces& pieces) const {
  return std::all_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    const int64_t sequence = piece.feed.sequence;
    return piece.feed.tokens.size() == 1 && piece.feed.tokens[0] == choice(sequence).id &&
           std::find(begun_.begin(), begun_.end(), sequence) != begun_.end();
  });
}

// As many sequences, so that choices lie where they did, in the context, and a token of the same recording.
bool Generator::goes_on(const Pieces& pieces, const std::vector<int64_t>& sequences) const {
  const DeviceHandle* const device = runtime_.backend.device();
  if (!is_recorded() || (device != nullptr && !device->tokens_ahead)) return false;
  if (!is_a_token_each(pieces) || pieces.size() != sequences.size()) return false;
  int64_t longest = 0;
  for (const int64_t sequence : sequences) longest = std::max(longest, length(sequence));
  return longest < context_ && recorded_keys(longest + 1) == recorded_keys(longest);
}

void Generator::begin_next(Forward& forward, const std::vector<int64_t>& sequences) {
  constexpr int32_t known_to_the_device = -1;
  Pieces next;
  for (const int64_t sequence : sequences)
    next.push_back({{sequence, {&known_to_the_device, 1}}, true, length(sequence) + 1});
  tell(forward, next);
  runtime_.backend.feed_choices(forward.draw.ids, forward.batch.ids, forward.draw.recent);
  ask(forward, true, *behind_);
  begun_ = sequences;
}

void Generator::read_choices(const Pieces& pieces, const std::vector<int64_t>& sequences) {
  if (sequences.empty()) return;
  const auto* const ids = static_cast<const int32_t*>(coming_->wait());
  const auto* const chances = reinterpret_cast<const double*>(ids + chances_behind(std::ssize(sequences)));
  for (const Piece& piece : pieces) {
    if (!piece.ends) continue;
    const int64_t sequence = piece.feed.sequence;
    const auto i = std::find(sequences.begin(), sequences.end(), sequence) - sequences.begin();
    Choice& choice = choices_[static_cast<size_t>(sequence)];
    choice.id = ids[i];
    if (sampling_.log_probabilities) choice.log_probability = chances[2 * i] - std::log(chances[2 * i + 1]);
  }
}

void Generator::begin(int64_t sequence, uint64_t stream) {
  rewind(sequence, 0);
  streams_[static_cast<size_t>(sequence)] = stream;
}

void Generator::rewind(int64_t sequence, int64_t length) {
  const int64_t own = this->length(sequence);
  require(length <= own, "a sequence of ", own, " tokens cannot be rewound to ", length);
  begun_.clear();
  auto& [assumed, tokens] = past(sequence);
  assumed = std::min(assumed, length);
  tokens.resize(static_cast<size_t>(length - assumed));
}

void Generator::assume_length(int64_t sequence, int64_t length) {
  rewind(sequence, 0);
  past(sequence).assumed = length;
}

double Generator::bytes_read(int64_t past, int64_t forwards) {
  const ModelConfig& config = model_.config();
  int64_t weights = 0, keys_and_values = 0;
  for (const Weight& weight : parameters_.weights())
    if (config.tied || &weight != &parameters_.embedding()) weights += weight.value.bytes();
  for (size_t layer = 0; layer < cache_.keys.size(); layer++) {
    const int64_t of_a_key = (cache_.keys[layer].bytes() + cache_.values[layer].bytes()) / cache_.rows;
    keys_and_values += causal_pairs(forwards, past, config.windows[layer]) * of_a_key;
  }
  return static_cast<double>(forwards * weights + sequences() * keys_and_values);
}

MemoryPlan plan_generation(const ModelConfig& config, int64_t context, const std::vector<std::vector<int64_t>>& batches,
                           Backend& backend, const Runtime& runtime) {
  return rehearse(backend, runtime, [&](Runtime& rehearsal) {
    size_t sequences = 0;
    for (const std::vector<int64_t>& prompts : batches) sequences = std::max(sequences, prompts.size());
    Generator generator(config, context, rehearsal, static_cast<int64_t>(sequences));
    for (const std::vector<int64_t>& prompts : batches) rehearse_prompts(generator, prompts);
    rehearse_tokens(generator);
  });
}

}  // namespace llama_tp
