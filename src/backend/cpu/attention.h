// What attention's two directions share: which keys a query sees, and how sequences are cut into tasks.
#pragma once

#include <algorithm>

#include "backend/backend.h"
#include "backend/cpu/math.h"
#include "backend/cpu/parallel.h"
#include "base/parts.h"

namespace llama_tp {

struct Sequence {
  int64_t first_query, queries, first_key, keys;

  // The keys that a query sees, both counted within the sequence.
  Range visible(int64_t query, int64_t window) const {
    const int64_t end = std::max<int64_t>(keys - queries + query + 1, 0);
    return {window > 0 ? std::max<int64_t>(end - window, 0) : 0, end};
  }
  // The queries that see any of the keys [begin, end).
  Range viewers(Range some, int64_t window) const {
    const int64_t first = std::max<int64_t>(some.begin - (keys - queries), 0);
    const int64_t end = window > 0 ? std::min(some.end - 1 + window - (keys - queries), queries) : queries;
    return {first, std::max(first, end)};
  }
};

inline Sequence sequence_at(const Tensor& ranges, int64_t index) {
  const int32_t* row = ranges.as<int32_t>() + index * 4;
  return {row[0], row[1], row[2], row[3]};
}

// first[s] is the number of the first task of sequence s when each has tasks(sequence) of them; first[n] is how many
// there are.
template <class Tasks>
void number_tasks(const Tensor& ranges, const Tasks& tasks, int64_t* first) {
  const int64_t n = ranges.shape[0];
  first[0] = 0;
  for (int64_t s = 0; s < n; s++) first[s + 1] = first[s] + tasks(sequence_at(ranges, s));
}
inline int64_t sequence_of_task(const int64_t* first, int64_t n, int64_t task) {
  return std::upper_bound(first, first + n + 1, task) - first - 1;
}

// The work of one direction, counted as in parallel.h: keys and values are copied to where they are multiplied; a score
// and what it adds to an output take an eighth of an element for each number of a head.
inline int64_t elements_of(const Tensor& ranges, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  int64_t keys = 0, pairs = 0;  // pairs of a query and a key
  for (int64_t s = 0; s < ranges.shape[0]; s++) {
    const Sequence sequence = sequence_at(ranges, s);
    keys += sequence.keys;
    pairs += sequence.queries * sequence.keys;
  }
  return (2 * keys * kv_heads + pairs * heads / 8) * head_dim;
}

// Softmax's running maximum starts here rather than at −∞, whose difference from itself is not a number.
inline constexpr float lowest_score = -1e30f;

}  // namespace llama_tp
