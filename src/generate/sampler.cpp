#include "generate/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace llama_tp {

namespace {

// Where candidates' probabilities, in order, first sum to at least `share`: how many that takes.
template <class Candidates>
size_t count_reaching(const Candidates& candidates, double share) {
  double sum = 0;
  for (size_t i = 0; i < candidates.size(); i++) {
    sum += static_cast<double>(candidates[i].probability);
    if (sum >= share) return i + 1;
  }
  return candidates.size();
}

// Probabilities of the candidates alone, at a temperature.
template <class Candidates>
void normalize(Candidates& candidates, float temperature) {
  double sum = 0;
  const float highest = candidates.front().logit;
  for (auto& candidate : candidates) {
    candidate.probability = std::exp((candidate.logit - highest) / temperature);
    sum += static_cast<double>(candidate.probability);
  }
  for (auto& candidate : candidates)
    candidate.probability = static_cast<float>(static_cast<double>(candidate.probability) / sum);
}

}  // namespace

void Sampler::penalize(std::span<float> logits, std::span<const int32_t> past) const {
  if (options_.repeat_penalty == 1) return;
  std::vector<int32_t> recent(past.end() - static_cast<int64_t>(std::min(past.size(), penalty_window)), past.end());
  std::sort(recent.begin(), recent.end());
  recent.erase(std::unique(recent.begin(), recent.end()), recent.end());
  for (const int32_t id : recent) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
  }
}

void Sampler::keep_top_k(std::span<const float> logits) {
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); i++) candidates_[i] = {static_cast<int32_t>(i), logits[i], 0};
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  };
  const auto all = static_cast<int64_t>(candidates_.size());
  const int64_t kept = options_.top_k > 0 ? std::min(options_.top_k, all) : all;
  std::partial_sort(candidates_.begin(), candidates_.begin() + kept, candidates_.end(), before);
  candidates_.resize(static_cast<size_t>(kept));
}

void Sampler::keep_top_p() {
  normalize(candidates_, 1);
  if (options_.top_p < 1) candidates_.resize(count_reaching(candidates_, static_cast<double>(options_.top_p)));
}

void Sampler::keep_min_p() {
  const float least = candidates_.front().logit + std::log(options_.min_p);  // −inf for 0: all are kept
  while (candidates_.back().logit < least) candidates_.pop_back();
}

int32_t Sampler::draw(float uniform) {
  normalize(candidates_, options_.temperature);
  // The first whose cumulative probability exceeds the number; the last where rounding leaves a rest.
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    sum += static_cast<double>(candidate.probability);
    if (static_cast<double>(uniform) < sum) return candidate.id;
  }
  return candidates_.back().id;
}

int32_t Sampler::sample(std::span<float> logits, std::span<const int32_t> past, uint64_t sequence, uint64_t position) {
  penalize(logits, past);
  if (options_.temperature <= 0)
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  keep_top_k(logits);
  keep_top_p();
  keep_min_p();
  return draw(random_uniform(options_.seed, sequence, position));
}

}  // namespace llama_tp
