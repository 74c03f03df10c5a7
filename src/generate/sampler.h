// The next token from the logits of the last position, in llama.cpp's order: repetition penalty, top-k, top-p, min-p,
// temperature. Every rank runs it on the same bits and draws the same number, so all take the same token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace llama_tp {

struct SamplerOptions {
  float temperature = 0.8f;  // 0: the most likely token
  int64_t top_k = 40;        // 0: all
  float top_p = 0.95f;       // 1: all
  float min_p = 0.05f;       // 0: all
  float repeat_penalty = 1;  // on the tokens among the last penalty_window; 1: none
  uint64_t seed = 0;
};

inline constexpr size_t penalty_window = 64;

class Sampler {
 public:
  explicit Sampler(const SamplerOptions& options) : options_(options) {}

  // logits: [vocabulary], changed by the penalty. past: all tokens so far. The random number is a function of (seed,
  // sequence, position).
  int32_t sample(std::span<float> logits, std::span<const int32_t> past, uint64_t sequence, uint64_t position);

 private:
  struct Candidate {
    int32_t id;
    float logit, probability;
  };
  void penalize(std::span<float> logits, std::span<const int32_t> past) const;
  void keep_top_k(std::span<const float> logits);
  void keep_top_p();
  void keep_min_p();
  int32_t draw(float uniform);

  SamplerOptions options_;
  std::vector<Candidate> candidates_;  // by falling logit
};

}  // namespace llama_tp
