// A model that continues one sequence: it is fed tokens and gives the logits that follow the last of them; keys and
// values of what it has seen stay in a cache.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace llama_tp {

class Generator {
 public:
  // Tokens of one forward of a prompt; longer prompts go through in pieces, so that activations stay small.
  static constexpr int64_t prompt_piece = 512;

  // Weights are not filled yet. context: the most tokens that the sequence may have.
  Generator(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, Runtime& runtime);

  // Feeds tokens; afterwards logits() are those of the position behind the last of them. Errors: the context is full.
  void feed(std::span<const int32_t> tokens);
  // [vocabulary], the same bits on every rank.
  std::span<float> logits() { return logits_; }

  int64_t length() const { return length_; }
  int64_t context() const { return cache_.rows; }
  Parameters& parameters() { return parameters_; }

 private:
  void feed_piece(std::span<const int32_t> tokens);

  Runtime& runtime_;
  Parameters parameters_;
  Transformer model_;
  KeyValueCache cache_;
  int64_t length_ = 0;
  HostBatch host_;
  std::vector<float> gathered_, logits_;
};

// The memory for a prompt of so many tokens and what follows it.
MemoryPlan plan_generation(const ModelConfig& config, const TensorParallelPlan& plan, int64_t context, int64_t prompt,
                           Backend& backend, const Runtime& runtime);

}  // namespace llama_tp
