// Lists of candidates (base/sampling.h) that are enough for a choice among the top_k likeliest, which many blocks make of
// all logits (likeliest.cu) for the one block that chooses (sample.cu).
//
// A sequence's logits are cut into parts of at most 8,192, within each rank's. A part's list has its top_k likeliest
// and some more, in no order.
#pragma once

#include "kernels/workspace.h"

namespace llama_tp::kernels {

struct Likeliest {
  uint64_t* candidates;  // [n, parts, most_of_part]
  uint32_t* counts;      // [n, parts]: of candidates; above most_of_part, of which there is no list; or not_finite

  static constexpr uint32_t not_finite = ~uint32_t{0};  // a logit is
};

// Where they lie in the scratch memory of a choice.
inline Likeliest likeliest_in(void* workspace, const SampleShape& shape) {
  const int64_t lists = shape.sequences * parts_of_logits(shape);
  auto* const candidates = static_cast<uint64_t*>(workspace);
  return {candidates, reinterpret_cast<uint32_t*>(candidates + lists * most_of_part)};
}

void list_likeliest(Stream stream, const float* logits, const SampleShape& shape, const int32_t* recent, float penalty,
                    int64_t top_k, const Likeliest& lists);

}  // namespace llama_tp::kernels
