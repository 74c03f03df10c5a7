// A model that continues sequences: it is fed tokens of each and gives the logits that follow the last of them; keys
// and values of what it has seen stay in a cache, in which each sequence has rows of its own.
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

class Generator {
 public:
  // Tokens of one forward of prompts; more go through in pieces, so that activations stay small.
  static constexpr int64_t prompt_piece = 512;

  // Weights are not filled yet. context: the most tokens that a sequence may have.
  Generator(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, Runtime& runtime,
            int64_t sequences = 1);
  ~Generator();

  // Feeds tokens to some sequences at once; afterwards logits() of each are those of the position behind its last
  // token. Errors: the context is full.
  void feed(std::span<const Feed> feeds);
  void feed(std::span<const int32_t> tokens) {
    const Feed alone{0, tokens};
    feed({&alone, 1});
  }
  // Forgets what a sequence has seen beyond its first `length` tokens.
  void rewind(int64_t sequence, int64_t length);
  // As if a sequence had seen so many tokens: of a plan, which has to know the memory of the last token that fits.
  void assume_length(int64_t sequence, int64_t length) { lengths_[static_cast<size_t>(sequence)] = length; }

  // [vocabulary], the same bits on every rank.
  std::span<float> logits(int64_t sequence = 0) { return logits_[static_cast<size_t>(sequence)]; }

  int64_t length(int64_t sequence = 0) const { return lengths_[static_cast<size_t>(sequence)]; }
  int64_t context() const { return context_; }
  int64_t sequences() const { return static_cast<int64_t>(lengths_.size()); }
  Parameters& parameters() { return parameters_; }

 private:
  // One forward; logits where a feed `ends` with its piece.
  struct Piece {
    Feed feed;
    bool ends = false;
    int64_t length = 0;  // of its sequence with all that was fed
  };
  void forward(const std::vector<Piece>& pieces, int64_t tokens);
  // Runs work as it is, or as a token's that a device may have recorded.
  void run(bool a_token_each, const Batch& batch, const std::function<void()>& work);
  void read_logits(const std::vector<int64_t>& sequences, const Tensor& gathered);

  Runtime& runtime_;
  Parameters parameters_;
  Transformer model_;
  int64_t context_;
  KeyValueCache cache_;           // sequence s has rows s · context to (s + 1) · context
  std::vector<int64_t> lengths_;  // of each sequence
  HostBatch host_;
  std::vector<float> gathered_;
  std::vector<std::vector<float>> logits_;  // of each sequence
};

// The memory for prompts of these lengths, one a sequence, fed at once, and for what follows them: a token a sequence
// at a time, of all or of any that are left.
MemoryPlan plan_generation(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context,
                           const std::vector<int64_t>& prompts, Backend& backend, const Runtime& runtime);

}  // namespace llama_tp
