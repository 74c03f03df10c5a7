// The likeliest candidates of each part of the logits (likeliest.h), after the penalty: those that a choice among the
// top_k likeliest of all can need, since whoever is among these is among the top_k of its part.
//
// Which they are is read off 128 bins by distance from the part's largest logit, each 1/4 wide: all candidates down to
// the bin with which there are top_k. A larger candidate is never in a lower bin, so nothing is missed, however the
// distance is rounded. Where a bin holds too many, the part has no list.
//
// logits: [ranks, n, V] f32; recent: [n, 64] i32. A block of 1,024 threads takes a part of a sequence, eight logits of a
// thread at once. Bound by its latency: of 128,256 logits there are 16 parts, which run beside each other.
#include "base/sampling.h"
#include "kernels/likeliest.h"
#include "kernels/reduce.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 1024, bins = 128;
constexpr int of_thread = logits_of_part / threads;
constexpr float bins_a_unit = 4;
constexpr uint64_t no_candidate = ~uint64_t{0};  // larger than any of a finite logit

struct Scratch {
  WarpValues<uint64_t> largest;
  uint32_t count_of[bins];
  uint32_t last_bin, listed;
  uint32_t is_recent[logits_of_part];  // words, so that a check for races sees each by itself
};

struct Part {
  int64_t first_id;
  int count;  // 0 where there is only padding
  const float* logits;

  // use(j, i) of this thread's share: its j-th logit is the part's i-th.
  template <class Use>
  __device__ __forceinline__ void each_own(const Use& use) const {
#pragma unroll
    for (int j = 0; j < of_thread; j++) {
      const int i = thread_of_block() + j * threads;
      if (i < count) use(j, i);
    }
  }
};

__device__ Part part_of(const float* logits, const SampleShape& shape) {
  const int64_t parts_of_rank = ceil_div(shape.columns, logits_of_part), rank = blockIdx.x / parts_of_rank,
                begin = blockIdx.x % parts_of_rank * logits_of_part, first_id = rank * shape.columns + begin;
  const int64_t exist = smaller(shape.columns - begin, shape.vocabulary - first_id);
  return {first_id, static_cast<int>(larger(0, smaller(exist, logits_of_part))),
          logits + (rank * shape.sequences + blockIdx.y) * shape.columns + begin};
}

// Each id is marked by one thread.
__device__ void mark_recent(const Part& part, const int32_t* recent, Scratch& scratch) {
  for (int i = thread_of_block(); i < part.count; i += threads) scratch.is_recent[i] = 0;
  __syncthreads();
  const int self = thread_of_block();
  if (self >= penalty_window) return;
  const int64_t place = recent[self] - part.first_id;
  bool marks = recent[self] >= 0 && place >= 0 && place < part.count;
  for (int i = 0; marks && i < self; i++) marks = recent[i] != recent[self];
  if (marks) scratch.is_recent[place] = 1;
}

__device__ __forceinline__ uint32_t bin_of(uint64_t candidate, float largest) {
  return static_cast<uint32_t>(fminf((largest - logit_of(candidate)) * bins_a_unit, bins - 1));
}

// Sets the last bin that is listed.
__device__ void find_last_bin(uint32_t top_k, Scratch& scratch) {
  const unsigned self = threadIdx.x;
  if (self >= bins) return;
  uint32_t before = 0;
  for (unsigned bin = 0; bin < self; bin++) before += scratch.count_of[bin];
  const uint32_t with = before + scratch.count_of[self];
  if (before < top_k && (with >= top_k || self == bins - 1)) scratch.last_bin = self;
}

__global__ void __launch_bounds__(threads)
    likeliest_kernel(const float* logits, SampleShape shape, const int32_t* recent, float penalty, uint32_t top_k,
                     Likeliest lists) {
  begin_behind_grids_ahead();
  auto& scratch = shared_memory<Scratch>();
  const Part part = part_of(logits, shape);
  const int64_t list = int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  if (threadIdx.x < bins) scratch.count_of[threadIdx.x] = 0;
  if (threadIdx.x == 0) scratch.listed = 0;
  if (penalty != 1) {
    mark_recent(part, recent + int64_t{blockIdx.y} * penalty_window, scratch);
    __syncthreads();
  }
  float logits_of_thread[of_thread];
  part.each_own([&](int j, int i) { logits_of_thread[j] = part.logits[i]; });
  uint64_t own[of_thread], largest = 0;
  part.each_own([&](int j, int i) {
    float logit = logits_of_thread[j];
    if (penalty != 1 && scratch.is_recent[i] != 0) logit = penalized(logit, penalty);
    own[j] = candidate_of(logit, part.first_id + i);
    largest = Largest::join(largest, is_finite(logit) ? own[j] : no_candidate);
  });
  largest = over_block<Largest>(largest, scratch.largest);
  if (largest == no_candidate || part.count == 0) {
    if (threadIdx.x == 0) lists.counts[list] = part.count == 0 ? 0 : Likeliest::not_finite;
    return;
  }
  const auto bin = [&](int j) { return bin_of(own[j], logit_of(largest)); };
  part.each_own([&](int j, int) { add_atomically(scratch.count_of[bin(j)], 1); });
  __syncthreads();
  find_last_bin(top_k, scratch);
  __syncthreads();
  part.each_own([&](int j, int) {
    if (bin(j) > scratch.last_bin) return;
    const uint32_t place = add_atomically(scratch.listed, 1);
    if (place < most_of_part) lists.candidates[list * most_of_part + place] = own[j];
  });
  __syncthreads();
  if (threadIdx.x == 0) lists.counts[list] = scratch.listed;
}

}  // namespace

void list_likeliest(Stream stream, const float* logits, const SampleShape& shape, const int32_t* recent, float penalty,
                    int64_t top_k, const Likeliest& lists) {
  launch_early(stream, "likeliest", grid_of("likeliest", parts_of_logits(shape), shape.sequences), threads,
               sizeof(Scratch), likeliest_kernel, logits, shape, recent, penalty, static_cast<uint32_t>(top_k), lists);
}

}  // namespace llama_tp::kernels
