// One token of each row of logits. A row's candidates (base/sampling.h) are sorted, as far as they are wanted.
#include <algorithm>
#include <cmath>
#include <functional>
#include <span>

#include "backend/cpu/cpu_backend.h"
#include "base/sampling.h"

namespace llama_tp {

namespace {

using Candidates = std::span<uint64_t>;  // of id i at i, then by falling order

void list(const Tensor& logits, int64_t row, Candidates candidates) {
  const int64_t columns = logits.shape[2], vocabulary = std::ssize(candidates);
  for (int64_t begin = 0; begin < vocabulary; begin += columns) {
    const float* const from = logits.as<float>() + (begin / columns * logits.shape[1] + row) * columns;
    const int64_t count = std::min(columns, vocabulary - begin);
    for (int64_t i = 0; i < count; i++) candidates[static_cast<size_t>(begin + i)] = candidate_of(from[i], begin + i);
  }
}

bool all_finite(Candidates candidates) {
  return std::all_of(candidates.begin(), candidates.end(), [](uint64_t one) { return is_finite(logit_of(one)); });
}

float largest_logit(Candidates candidates) { return logit_of(*std::max_element(candidates.begin(), candidates.end())); }

uint64_t sum_of_weights(Candidates candidates, float largest, float temperature) {
  uint64_t sum = 0;
  for (const uint64_t one : candidates) sum += weight_of(logit_of(one), largest, temperature);
  return sum;
}

void penalize(Candidates candidates, std::span<const int32_t> recent, float penalty) {
  for (auto id = recent.begin(); id != recent.end(); id++) {
    if (*id < 0 || std::find(recent.begin(), id, *id) != id) continue;  // once, however often it was there
    uint64_t& one = candidates[static_cast<size_t>(*id)];
    one = candidate_of(penalized(logit_of(one), penalty), *id);
  }
}

// The first of sorted candidates at which the sum of weights exceeds a number, which that of all does.
size_t first_exceeding(Candidates sorted, float temperature, uint64_t number) {
  const float largest = logit_of(sorted.front());
  size_t i = 0;
  for (uint64_t sum = 0;; i++) {
    sum += weight_of(logit_of(sorted[i]), largest, temperature);
    if (sum > number) return i;
  }
}

int32_t choose(Candidates candidates, const SamplingOptions& options, float uniform) {
  if (options.temperature <= 0) return id_of(*std::max_element(candidates.begin(), candidates.end()));
  const auto all = static_cast<int64_t>(candidates.size());
  const int64_t most = options.top_k > 0 ? std::min(options.top_k, all) : all;
  std::partial_sort(candidates.begin(), candidates.begin() + most, candidates.end(), std::greater<>());
  Candidates kept = candidates.first(static_cast<size_t>(most));
  const float largest = logit_of(kept.front());
  if (options.top_p < 1) {
    const uint64_t number = below_reaching(options.top_p, sum_of_weights(kept, largest, 1));
    kept = kept.first(first_exceeding(kept, 1, number) + 1);
  }
  const uint64_t least = least_candidate(largest + std::log(options.min_p));  // −inf for 0: all are kept
  while (kept.back() < least) kept = kept.first(kept.size() - 1);
  const uint64_t total = sum_of_weights(kept, largest, options.temperature);
  return id_of(kept[first_exceeding(kept, options.temperature, below_exceeding(uniform, total))]);
}

}  // namespace

int64_t CpuBackend::sample_workspace(const Tensor& logits) {
  return logits.shape[0] * logits.shape[2] * static_cast<int64_t>(sizeof(uint64_t));
}

void CpuBackend::run_sample(const Tensor& logits, int64_t vocabulary, const Tensor& recent, const Tensor& uniforms,
                            const SamplingOptions& options, const Tensor& ids, const Tensor& chances, void* workspace) {
  const Candidates candidates(static_cast<uint64_t*>(workspace), static_cast<size_t>(vocabulary));
  for (int64_t i = 0; i < ids.shape[0]; i++) {
    list(logits, i, candidates);
    float largest = 0;
    double sum = 0;
    if (chances.exists()) {
      largest = largest_logit(candidates);
      sum = std::ldexp(static_cast<double>(sum_of_weights(candidates, largest, 1)), -weight_bits);
    }
    if (options.repeat_penalty != 1)
      penalize(candidates, {recent.as<int32_t>() + i * penalty_window, penalty_window}, options.repeat_penalty);
    const int32_t id = all_finite(candidates) ? choose(candidates, options, uniforms.as<float>()[i]) : -1;
    ids.as<int32_t>()[i] = id;
    if (!chances.exists()) continue;
    const int64_t columns = logits.shape[2], rank = id / columns;
    const float logit = id < 0 ? largest : logits.as<float>()[(rank * logits.shape[1] + i) * columns + id % columns];
    chances.as<double>()[2 * i] = static_cast<double>(logit) - static_cast<double>(largest);
    chances.as<double>()[2 * i + 1] = sum;
  }
}

void CpuBackend::run_feed_choices(const Tensor& ids, const Tensor& next, const Tensor& recent) {
  for (int64_t i = 0; i < ids.shape[0]; i++)
    next.as<int32_t>()[i] = recent.as<int32_t>()[(i + 1) * penalty_window - 1] = ids.as<int32_t>()[i];
}

}  // namespace llama_tp
