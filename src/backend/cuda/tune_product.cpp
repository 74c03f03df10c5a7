#include "backend/cuda/tune_product.h"

#include <algorithm>
#include <cmath>

#include "backend/cuda/calls.h"
#include "backend/fill.h"

namespace llama_tp {

namespace {

constexpr int most_algorithms = 32;
// The device's clock follows its load and its warmth, so algorithms take turns, there and back, and are compared round by
// round.
constexpr int rounds = 9;
// Of one algorithm in a round: ten thousand times what an event is off by.
constexpr double round_seconds = 5e-3;
constexpr double most_calls = 200;
// An algorithm that takes so many times the first one's time in its first run is not timed again.
constexpr double hopeless = 1.5;
// A gain below it would not be seen in a step.
constexpr double least_gain = 0.01;

constexpr int64_t aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// A product's matrices, bias and scratch in one piece of memory.
class Operands {
 public:
  Operands(Backend& backend, const Product& product, size_t workspace)
      : backend_(backend),
        a_(aligned(product.m * product.k * size_of(product.in))),
        b_(aligned(product.k * product.n * size_of(product.in))),
        c_(aligned(product.m * product.n * size_of(product.out))),
        bias_(aligned(product.m * size_of(product.in))),
        bytes_(a_ + b_ + c_ + bias_ + aligned(static_cast<int64_t>(workspace))),
        base_(static_cast<char*>(backend.reserve(bytes_))) {
    // Of the matrices and the bias: scratch is the library's.
    const auto numbers = [&](int64_t at, int64_t bytes, DType dtype) {
      fill(backend, {base_ + at, dtype, {bytes / size_of(dtype)}});
    };
    numbers(0, a_ + b_, product.in);
    numbers(a_ + b_, c_, product.out);
    numbers(a_ + b_ + c_, bias_, product.in);
  }
  // As an arena's memory is: behind an error the end of the process gives it back.
  ~Operands() { backend_.release(base_, bytes_); }
  Operands(const Operands&) = delete;
  Operands& operator=(const Operands&) = delete;

  ProductOperands pointers() const {
    char *const b = base_ + a_, *const c = b + b_, *const bias = c + c_;
    return {base_, b, bias, c, bias + bias_};
  }

 private:
  Backend& backend_;
  int64_t a_, b_, c_, bias_, bytes_;
  char* base_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Candidate {
  ProductAlgorithm algorithm;
  int calls = 1;                // of a round
  std::vector<double> seconds;  // of a call, a round each
};

// The product's algorithms, run and timed.
class Trial {
 public:
  Trial(Backend& backend, CublasLt& library, kernels::Stream stream, const Product& product)
      : library_(library),
        stream_(stream),
        product_(product),
        algorithms_(library.algorithms(product, most_algorithms)),
        operands_(backend, product, largest_workspace()),
        watch_(stream) {}

  // The first, and all that may be faster, with their times.
  std::vector<Candidate> run() {
    std::vector<Candidate> candidates = promising();
    const size_t count = candidates.size();
    for (int round = 0; round < rounds; round++)
      for (size_t i = 0; i < count; i++) {
        Candidate& candidate = candidates[round % 2 == 0 ? i : count - 1 - i];
        candidate.seconds.push_back(seconds_a_call(candidate.algorithm, candidate.calls));
      }
    return candidates;
  }

  int algorithms() const { return static_cast<int>(algorithms_.size()); }

 private:
  size_t largest_workspace() const {
    size_t most = 0;
    for (const ProductAlgorithm& algorithm : algorithms_) most = std::max(most, algorithm.workspace);
    return most;
  }

  double seconds_a_call(const ProductAlgorithm& algorithm, int calls) {
    watch_.start();
    for (int call = 0; call < calls; call++)
      require(library_.multiply_by(stream_, product_, algorithm, operands_.pointers()),
              "cuda: cuBLASLt no longer starts an algorithm that it has run");
    return watch_.seconds() / calls;
  }
  // Of three, since a call of a few microseconds may wait for the host.
  double least_seconds(const ProductAlgorithm& algorithm) {
    double least = seconds_a_call(algorithm, 1);
    for (int again = 0; again < 2; again++) least = std::min(least, seconds_a_call(algorithm, 1));
    return least;
  }

  // The first run of an algorithm also loads its kernel, so it does not count.
  std::vector<Candidate> promising() {
    std::vector<Candidate> candidates;
    double first = 0;
    for (const ProductAlgorithm& algorithm : algorithms_) {
      const bool starts = library_.multiply_by(stream_, product_, algorithm, operands_.pointers());
      require(starts || !candidates.empty(), "cuda: cuBLASLt does not start the algorithm that it names first");
      if (!starts) continue;
      const double seconds = least_seconds(algorithm);
      if (candidates.empty()) first = seconds;
      if (seconds > hopeless * first) continue;
      const double calls = std::clamp(std::ceil(round_seconds / seconds), 1.0, most_calls);
      candidates.push_back({algorithm, static_cast<int>(calls), {}});
    }
    return candidates;
  }

  CublasLt& library_;
  kernels::Stream stream_;
  const Product& product_;
  std::vector<ProductAlgorithm> algorithms_;
  Operands operands_;
  CudaStopwatch watch_;
};

// By more than the least gain beside the first in the same round, in all rounds but one.
bool is_faster(const Candidate& candidate, const Candidate& first) {
  int faster = 0;
  for (size_t round = 0; round < rounds; round++)
    if (candidate.seconds[round] < (1 - least_gain) * first.seconds[round]) faster++;
  return faster >= rounds - 1;
}

const Candidate& best_of(const std::vector<Candidate>& candidates) {
  const Candidate* best = &candidates.front();
  for (const Candidate& candidate : candidates)
    if (is_faster(candidate, candidates.front()) && median(candidate.seconds) < median(best->seconds))
      best = &candidate;
  return *best;
}

}  // namespace

TunedProduct tune_product(Backend& backend, CublasLt& library, kernels::Stream stream, const Product& product) {
  Trial trial(backend, library, stream, product);
  const std::vector<Candidate> candidates = trial.run();
  const Candidate& chosen = best_of(candidates);
  return {chosen.algorithm.bytes, {trial.algorithms(), median(candidates.front().seconds), median(chosen.seconds)}};
}

}  // namespace llama_tp
