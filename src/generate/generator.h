// A model that continues sequences: it is fed tokens of each and chooses the one that follows the last of them; keys and
// values of what it has seen stay in a cache, in which each sequence has rows of its own. The choice is made where the
// logits are; they never leave the device.
//
// Most choices are fed next. So a device that works behind the host's back is asked for the forward that follows them
// before the host has them, and has no pause while the host reads, prints and asks. If something else is fed, that
// forward was in vain: what it has written to the cache is written again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "backend/delivery.h"
#include "model/transformer.h"

namespace llama_tp {

// What a sequence goes on with.
struct Feed {
  int64_t sequence = 0;
  std::span<const int32_t> tokens;
  int64_t behind = 0;  // tokens of the same text that the next feeds bring: rotary frequencies may follow its length
};

struct Sampling {
  SamplingOptions options;
  uint64_t seed = 0;
  bool log_probabilities = false;
};

struct Choice {
  int32_t id = -1;             // −1: there is a logit that is not finite
  double log_probability = 0;  // before penalty, temperature and filters; where it is asked for
};

class Generator {
 public:
  // Tokens of one forward of prompts; more go through in pieces, so that activations stay small.
  static constexpr int64_t prompt_piece = 512;

  // Weights are not filled yet. context: the most tokens that a sequence may have.
  Generator(const ModelConfig& config, int64_t context, Runtime& runtime, int64_t sequences = 1,
            const Sampling& sampling = {});
  ~Generator();

  // Feeds tokens to some sequences at once; afterwards choice() of each is the token behind its last. Errors: the
  // context is full.
  void feed(std::span<const Feed> feeds);
  void feed(std::span<const int32_t> tokens, int64_t behind = 0) {
    const Feed alone{0, tokens, behind};
    feed({&alone, 1});
  }
  // At the end: waits for what was begun in vain, so that its errors are seen.
  void finish();
  // Empties a sequence for another text, whose random numbers are those of `stream`. Until then sequence s is that of
  // stream s.
  void begin(int64_t sequence, uint64_t stream);
  // Forgets what a sequence has seen beyond its first `length` tokens: the same text goes on from there.
  void rewind(int64_t sequence, int64_t length);
  // As if a sequence had seen so many tokens: of a plan, which has to know the memory of the last token that fits.
  void assume_length(int64_t sequence, int64_t length);

  // The same on every rank of a tensor group. Its random number is a function of the seed, the sequence's stream and its
  // length: equal prompts are continued differently, and each alike whatever other sequences there are.
  const Choice& choice(int64_t sequence = 0) const { return choices_[static_cast<size_t>(sequence)]; }

  int64_t length(int64_t sequence = 0) const { return past_[static_cast<size_t>(sequence)].length(); }
  int64_t context() const { return context_; }
  int64_t sequences() const { return std::ssize(past_); }
  Parameters& parameters() { return parameters_; }
  // Bytes that this rank reads from memory in so many forwards of a token of every sequence, the first of them behind
  // `past` tokens: each time the weights, of an embedding that is not the head as well only rows, and in every layer the
  // keys and values that attention sees.
  double bytes_read(int64_t past, int64_t forwards);

 private:
  // What a sequence has seen.
  struct Past {
    int64_t assumed = 0;          // tokens of which no more than their number is known
    std::vector<int32_t> tokens;  // behind these
    int64_t length() const { return assumed + std::ssize(tokens); }
  };
  // One forward; a choice where a feed `ends` with its piece.
  struct Piece {
    Feed feed;
    bool ends = false;
    int64_t length = 0;  // of its sequence with the whole text
  };
  using Pieces = std::vector<Piece>;
  static bool is_a_token_each(const Pieces& pieces);
  // What choosing the next tokens of n sequences takes besides logits, and gives.
  struct Draw {
    Tensor asked;                   // the next three, which are uploaded at once
    Tensor rows, recent, uniforms;  // of the tokens behind which the next one is chosen; as in Backend::sample
    Tensor ids, chances;            // as there
    Tensor chosen;                  // both, or ids alone where nobody asks for chances
  };
  // What a forward takes of the step's memory: the same for as many tokens, pieces and choices.
  struct Forward {
    Batch batch;
    Tensor x, last, logits;
    Draw draw;
  };

  // is_of_all: of each sequence that is fed, and so of what is fed next, if the choices are.
  void forward(const Pieces& pieces, bool is_of_all);
  Forward take_forward(Frame& frame, const Pieces& pieces);
  Draw take_draw(Frame& frame, int64_t n) const;
  // The host's part, and the device's.
  void tell(Forward& forward, const Pieces& pieces);
  void tell_draw(const Draw& draw, const Pieces& pieces);
  void ask(const Forward& forward, bool a_token_each, Delivery& delivery);
  // Whether the device has begun this forward already; whether it can begin the one behind it.
  bool has_begun(const Pieces& pieces) const;
  bool goes_on(const Pieces& pieces, const std::vector<int64_t>& sequences) const;
  void begin_next(Forward& forward, const std::vector<int64_t>& sequences);
  void read_choices(const Pieces& pieces, const std::vector<int64_t>& sequences);
  // Whether tokens may be recorded; for how many keys the recording of one that sees so many is made.
  bool is_recorded() const;
  int64_t recorded_keys(int64_t longest) const;
  Past& past(int64_t sequence) { return past_[static_cast<size_t>(sequence)]; }

  Runtime& runtime_;
  Parameters parameters_;
  Transformer model_;
  int64_t context_;
  Sampling sampling_;
  KeyValueCache cache_;  // sequence s has rows s · context to (s + 1) · context
  // Of each sequence.
  std::vector<Past> past_;
  std::vector<uint64_t> streams_;  // of random numbers
  std::vector<Choice> choices_;
  HostBatch host_;
  std::vector<int32_t> asked_;  // Draw::asked
  // The choices that come, and those of the forward that was begun behind them, of these sequences.
  std::unique_ptr<Delivery> coming_, behind_;
  std::vector<int64_t> begun_;
};

// The memory for batches of prompts, one after the other: prompts of these lengths, one a sequence, fed at once, and
// what follows them, a token a sequence at a time, of all or of any that are left. There are as many sequences as the
// largest batch has prompts.
MemoryPlan plan_generation(const ModelConfig& config, int64_t context, const std::vector<std::vector<int64_t>>& batches,
                           Backend& backend, const Runtime& runtime);

}  // namespace llama_tp
