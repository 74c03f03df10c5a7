// The next token of each sequence: the choice that the CPU makes by sorting, bit for bit, without a sort.
//
//   repetition penalty, top-k, top-p, min-p, temperature; then the first candidate, by falling logit and among equal
//   ones by rising id, at which the sum of probabilities exceeds a uniform number
//
// logits: [ranks, n, V] f32, as the ranks' vocabularies were gathered; recent: [n, 64] i32; uniforms: [n] f32; ids: [n]
// i32; chances: [n, 2] f64. A candidate is a 64-bit word and its weight an integer (base/sampling.h), so that sums may
// be taken in any order, and each filter is one question: which candidate is the first at which the weights of those
// so far exceed a number? Its answer is a lower bound of the candidates that remain. It is found by distance from the
// largest: the weights of 256 bins, then those of 256 parts of the bin where the number is exceeded, until a bin has so
// few candidates that each is compared with each. The first bins are narrow and reach down to a quarter of the largest
// logit. Only where the number is not exceeded there do all others get bins, in which many threads then meet.
//
// A block of 1,024 threads takes a sequence. Where the choice is among the few likeliest and nobody asks for chances, it
// has lists of them (likeliest.h), which it goes through in shared memory; so it is bound by its barriers. Else, and where
// a list is too long, by the instructions of one multiprocessor, which reads the logits from L2 seven to ten times, eight
// of a thread at once: the largest, two or three for top-k, two for each of top-p and the draw, two for the chances.
#include <cmath>

#include "base/sampling.h"
#include "kernels/kernels.h"
#include "kernels/likeliest.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 1024, bin_bits = 8, bins = 1 << bin_bits;
constexpr int at_once = 8;                       // logits that a thread waits for together
constexpr uint64_t no_candidate = ~uint64_t{0};  // larger than any of a finite logit
constexpr int64_t most_listed = 4096;            // candidates of all lists together
constexpr int64_t most_lists = threads;
constexpr int64_t most_top_k = 256;  // of which the lists are made

struct SampleScratch {
  WarpValues<uint64_t> largest, counts, weights;
  // Of the bins, or of candidates that are compared with each other.
  uint64_t weight_of[bins], candidates[bins];
  uint32_t count_of[bins];
  uint32_t listed;
  struct {
    uint64_t place, before, count;  // a bin or a candidate, the weights before it, the candidates in it
  } found;
  uint32_t counts_of_lists[most_lists];
  uint64_t candidates_of_lists[most_listed];
};

// The logits of a sequence.
struct Row {
  float* first;
  int64_t ranks, next_rank, columns, size;  // the last: of the vocabulary

  __device__ __forceinline__ float& of(int64_t id) const { return first[id / columns * next_rank + id % columns]; }
  // look(candidate) of this thread's share.
  template <class Look>
  __device__ __forceinline__ void each(const Look& look) const {
    for (int64_t rank = 0; rank < ranks; rank++) {
      const int64_t begin = rank * columns, count = smaller(columns, size - begin);
      each_piece<at_once, 1>(first + rank * next_rank, thread_of_block(), static_cast<int>(count), threads,
                             [&](int i, const float(&logit)[1]) { look(candidate_of(logit[0], begin + i)); });
    }
  }
};

// The candidates of all lists of a sequence.
struct Listed {
  const uint64_t* candidates;
  int64_t size;

  template <class Look>
  __device__ __forceinline__ void each(const Look& look) const {
    for (int i = thread_of_block(); i < size; i += threads) look(candidates[i]);
  }
};

struct One {
  __device__ __forceinline__ uint64_t operator()(uint64_t) const { return 1; }
};
struct Probability {
  float largest, temperature;
  __device__ __forceinline__ uint64_t operator()(uint64_t candidate) const {
    return weight_of(logit_of(candidate), largest, temperature);
  }
};

// no_candidate if a logit is not finite.
template <class Candidates>
__device__ uint64_t largest_of(const Candidates& all, SampleScratch& scratch) {
  uint64_t largest = 0;
  all.each([&](uint64_t candidate) {
    largest = Largest::join(largest, is_finite(logit_of(candidate)) ? candidate : no_candidate);
  });
  return over_block<Largest>(largest, scratch.largest);
}

struct Total {
  uint64_t candidates, weight;
};
// Of the candidates from `least` on.
template <class Candidates>
__device__ Total total_of(const Candidates& all, uint64_t least, const Probability& weight, SampleScratch& scratch) {
  Total own{0, 0};
  all.each([&](uint64_t candidate) {
    if (candidate < least) return;
    own.candidates++;
    own.weight += weight(candidate);
  });
  return {over_block<Sum>(own.candidates, scratch.counts), over_block<Sum>(own.weight, scratch.weights)};
}

// The bin of a candidate that is not larger than `end`.
__device__ __forceinline__ uint64_t bin_of(uint64_t candidate, uint64_t end, int shift) {
  return (end - candidate) >> shift;
}
constexpr int first_shift = 48, all_shift = 64 - bin_bits;  // 128 bins a power of two; whatever the candidates are

// This thread's bin or candidate is found if the weights before it do not exceed the number and those with it do.
__device__ __forceinline__ void claim(uint64_t place, uint64_t before, uint64_t own, uint64_t count, uint64_t number,
                                      SampleScratch& scratch) {
  if (before <= number && number - before < own) scratch.found = {place, before, count};
}

// Of the candidates from `least` to `end`, so many, the first at which the sum of weights exceeds a number.
template <class Candidates, class Weight>
__device__ uint64_t first_exceeding(const Candidates& all, uint64_t least, uint64_t end, uint64_t candidates,
                                    const Weight& weight, uint64_t number, SampleScratch& scratch) {
  const unsigned self = threadIdx.x;
  int shift = candidates > bins ? first_shift : all_shift;
  const auto remains = [&](uint64_t candidate) {
    return candidate >= least && candidate <= end && bin_of(candidate, end, shift) < bins;
  };
  while (candidates > bins) {
    if (self < bins) scratch.weight_of[self] = scratch.count_of[self] = 0;
    __syncthreads();
    all.each([&](uint64_t candidate) {
      if (!remains(candidate)) return;
      const uint64_t bin = bin_of(candidate, end, shift);
      add_atomically(scratch.weight_of[bin], weight(candidate));
      add_atomically(scratch.count_of[bin], 1);
    });
    __syncthreads();
    if (self < bins) {
      uint64_t before = 0, candidates_before = 0;
      for (unsigned bin = 0; bin < self; bin++) {
        before += scratch.weight_of[bin];
        candidates_before += scratch.count_of[bin];
      }
      const uint64_t own = scratch.weight_of[self];
      claim(self, before, own, scratch.count_of[self], number, scratch);
      if (self == bins - 1 && before + own <= number)  // it is below them all
        scratch.found = {bins, before + own, candidates - candidates_before - scratch.count_of[self]};
    }
    __syncthreads();
    end -= scratch.found.place << shift;
    shift = scratch.found.place < bins ? shift - bin_bits : all_shift;
    number -= scratch.found.before;
    candidates = scratch.found.count;
  }
  if (self == 0) scratch.listed = 0;
  __syncthreads();
  all.each([&](uint64_t candidate) {
    if (!remains(candidate)) return;
    const uint32_t place = add_atomically(scratch.listed, 1);
    scratch.candidates[place] = candidate;
    scratch.weight_of[place] = weight(candidate);
  });
  __syncthreads();
  if (self < candidates) {
    const uint64_t own = scratch.candidates[self];
    uint64_t before = 0;
    for (uint64_t i = 0; i < candidates; i++) before += scratch.candidates[i] > own ? scratch.weight_of[i] : 0;
    claim(own, before, scratch.weight_of[self], 1, number, scratch);
  }
  __syncthreads();
  return scratch.found.place;
}

struct Settings {
  SamplingOptions options;
  float log_min_p;
};

template <class Candidates>
__device__ uint64_t choose(const Candidates& all, const Settings& settings, float uniform, SampleScratch& scratch) {
  const SamplingOptions& options = settings.options;
  const uint64_t likeliest = largest_of(all, scratch);
  if (likeliest == no_candidate || options.temperature <= 0) return likeliest;
  const float largest = logit_of(likeliest);
  auto candidates = static_cast<uint64_t>(all.size);
  uint64_t least = 0;
  if (options.top_k > 0 && options.top_k < all.size) {
    candidates = static_cast<uint64_t>(options.top_k);
    least = first_exceeding(all, 0, likeliest, static_cast<uint64_t>(all.size), One{}, candidates - 1, scratch);
  }
  if (options.top_p < 1) {
    const Probability weight{largest, 1};
    const uint64_t number = below_reaching(options.top_p, total_of(all, least, weight, scratch).weight);
    least = first_exceeding(all, least, likeliest, candidates, weight, number, scratch);
  }
  const uint64_t by_min_p = least_candidate(largest + settings.log_min_p);
  if (by_min_p > least) least = by_min_p;
  const Probability weight{largest, options.temperature};
  const Total total = total_of(all, least, weight, scratch);
  return first_exceeding(all, least, likeliest, total.candidates, weight, below_exceeding(uniform, total.weight),
                         scratch);
}

__device__ __forceinline__ int32_t id_or_none(uint64_t chosen) { return chosen == no_candidate ? -1 : id_of(chosen); }

// Brings a sequence's lists to shared memory, one behind the other. usable: there is one of each part, and room for all;
// where a logit is not finite there is none, and the row itself is looked at.
struct Gathered {
  bool usable = true;
  uint32_t candidates = 0;
};
__device__ Gathered gather(const Likeliest& lists, int parts, SampleScratch& scratch) {
  const int64_t first = int64_t{blockIdx.x} * parts;
  for (int part = thread_of_block(); part < parts; part += threads)
    scratch.counts_of_lists[part] = lists.counts[first + part];
  __syncthreads();
  Gathered all;
  for (int part = 0; part < parts; part++) {
    const uint32_t count = scratch.counts_of_lists[part];
    all.usable = all.usable && count <= most_of_part;
    all.candidates += all.usable ? count : 0;
  }
  all.usable = all.usable && all.candidates <= most_listed;
  if (!all.usable) return all;
  uint64_t* to = scratch.candidates_of_lists;
  for (int part = 0; part < parts; part++) {
    const auto count = static_cast<int>(scratch.counts_of_lists[part]);
    if (part % (threads / warp_size) == warp_of_block())
      for (int i = lane_of_warp(); i < count; i += warp_size)
        to[i] = lists.candidates[(first + part) * most_of_part + i];
    to += count;
  }
  __syncthreads();
  return all;
}

// parts: of the lists; 0: there are none. The logits have the penalty while the choice is made from them: the first
// thread of a recent id puts it there and takes it away. Those of lists have it already.
__global__ void __launch_bounds__(threads)
    sample_kernel(float* logits, SampleShape shape, const int32_t* recent, const float* uniforms, Settings settings,
                  Likeliest lists, int parts, int32_t* ids, double* chances) {
  begin_behind_grids_ahead();
  auto& scratch = shared_memory<SampleScratch>();
  const int64_t sequence = blockIdx.x;
  if (parts > 0) {
    const Gathered all = gather(lists, parts, scratch);
    if (all.usable) {
      const uint64_t chosen =
          choose(Listed{scratch.candidates_of_lists, all.candidates}, settings, uniforms[sequence], scratch);
      if (threadIdx.x == 0) ids[sequence] = id_or_none(chosen);
      return;
    }
  }
  const Row row{logits + sequence * shape.columns, shape.ranks, shape.sequences * shape.columns, shape.columns,
                shape.vocabulary};
  float largest = 0;
  uint64_t total = 0;
  if (chances != nullptr) {
    largest = logit_of(largest_of(row, scratch));
    total = total_of(row, 0, {largest, 1}, scratch).weight;
  }
  const float penalty = settings.options.repeat_penalty;
  const int32_t* const own = recent + sequence * penalty_window;
  bool punishes = penalty != 1 && threadIdx.x < penalty_window && own[threadIdx.x] >= 0;
  for (unsigned i = 0; punishes && i < threadIdx.x; i++) punishes = own[i] != own[threadIdx.x];
  const float before = punishes ? row.of(own[threadIdx.x]) : 0;
  if (penalty != 1) {
    if (punishes) row.of(own[threadIdx.x]) = penalized(before, penalty);
    __syncthreads();
  }
  const uint64_t chosen = choose(row, settings, uniforms[sequence], scratch);
  const int32_t id = id_or_none(chosen);
  if (penalty != 1) {
    if (punishes) row.of(own[threadIdx.x]) = before;
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  ids[sequence] = id;
  if (chances == nullptr) return;
  chances[2 * sequence] = static_cast<double>(id < 0 ? largest : row.of(id)) - static_cast<double>(largest);
  chances[2 * sequence + 1] = static_cast<double>(total) * (1.0 / (uint64_t{1} << weight_bits));
}

}  // namespace

void sample(Stream stream, float* logits, const SampleShape& shape, const int32_t* recent, const float* uniforms,
            const SamplingOptions& options, int32_t* ids, double* chances, void* workspace) {
  const int64_t top_k = options.temperature <= 0 ? 1 : options.top_k, parts = parts_of_logits(shape);
  const bool of_lists = chances == nullptr && top_k >= 1 && top_k <= most_top_k && parts <= most_lists &&
                        smaller(parts * top_k, shape.vocabulary) <= most_listed;
  const Likeliest lists = likeliest_in(workspace, shape);
  if (of_lists) list_likeliest(stream, logits, shape, recent, options.repeat_penalty, top_k, lists);
  launch_early(stream, "sample", grid_of("sample", shape.sequences), threads, sizeof(SampleScratch), sample_kernel,
               logits, shape, recent, uniforms, Settings{options, std::log(options.min_p)}, lists,
               of_lists ? static_cast<int>(parts) : 0, ids, chances);
}

}  // namespace llama_tp::kernels
