// A model that continues sequences: it is fed tokens of each and chooses the one that follows the last of them; keys and
// values of what it has seen stay in a cache, in which each sequence has rows of its own. The choice is made where the
// logits are; they never leave the device.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace llama_tp {

// What a sequence goes on with.
struct Feed {
  int64_t sequence = 0;
  std::span<const int32_t> tokens;
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
  Generator(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, Runtime& runtime,
            int64_t sequences = 1, const Sampling& sampling = {});
  ~Generator();

  // Feeds tokens to some sequences at once; afterwards choice() of each is the token behind its last. Errors: the
  // context is full.
  void feed(std::span<const Feed> feeds);
  void feed(std::span<const int32_t> tokens) {
    const Feed alone{0, tokens};
    feed({&alone, 1});
  }
  // Empties a sequence for another text, whose random numbers are those of `stream`. Until then sequence s is that of
  // stream s.
  void begin(int64_t sequence, uint64_t stream);
  // Forgets what a sequence has seen beyond its first `length` tokens: the same text goes on from there.
  void rewind(int64_t sequence, int64_t length);
  // As if a sequence had seen so many tokens: of a plan, which has to know the memory of the last token that fits.
  void assume_length(int64_t sequence, int64_t length) { past(sequence).resize(static_cast<size_t>(length)); }

  // The same on every rank of a tensor group. Its random number is a function of the seed, the sequence's stream and its
  // length: equal prompts are continued differently, and each alike whatever other sequences there are.
  const Choice& choice(int64_t sequence = 0) const { return choices_[static_cast<size_t>(sequence)]; }

  int64_t length(int64_t sequence = 0) const { return std::ssize(past_[static_cast<size_t>(sequence)]); }
  int64_t context() const { return context_; }
  int64_t sequences() const { return std::ssize(past_); }
  Parameters& parameters() { return parameters_; }

 private:
  // One forward; a choice where a feed `ends` with its piece.
  struct Piece {
    Feed feed;
    bool ends = false;
    int64_t length = 0;  // of its sequence with all that was fed
  };
  void forward(const std::vector<Piece>& pieces, int64_t tokens);
  // Runs work as it is, or as a token's that a device may have recorded.
  void run(bool a_token_each, const Batch& batch, const std::function<void()>& work);
  // What choosing the next tokens of n sequences takes besides logits, and gives.
  struct Draw {
    Tensor rows;              // of the tokens behind which the next one is chosen
    Tensor recent, uniforms;  // as in Backend::sample
    Tensor ids, chances;
  };
  Draw take_draw(Frame& frame, const std::vector<int64_t>& sequences, const std::vector<int32_t>& rows);
  void read_choices(const std::vector<int64_t>& sequences, const Draw& draw);
  std::vector<int32_t>& past(int64_t sequence) { return past_[static_cast<size_t>(sequence)]; }

  Runtime& runtime_;
  Parameters parameters_;
  Transformer model_;
  int64_t context_;
  Sampling sampling_;
  KeyValueCache cache_;  // sequence s has rows s · context to (s + 1) · context
  // Of each sequence.
  std::vector<std::vector<int32_t>> past_;  // its tokens
  std::vector<uint64_t> streams_;           // of random numbers
  std::vector<Choice> choices_;
  HostBatch host_;
  // What goes to the device and comes from it, a row a sequence.
  std::vector<int32_t> asked_, ids_;
  std::vector<double> chances_;
};

// The memory for batches of prompts, one after the other: prompts of these lengths, one a sequence, fed at once, and
// what follows them, a token a sequence at a time, of all or of any that are left. There are as many sequences as the
// largest batch has prompts.
MemoryPlan plan_generation(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context,
                           const std::vector<std::vector<int64_t>>& batches, Backend& backend, const Runtime& runtime);

}  // namespace llama_tp
