// Attention with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022). A task takes a tile of queries of a
// few heads that share their keys and walks over the visible keys, tile by tile: scores, probabilities, sum of values.
// With few tokens, as when generating, the keys are also split into chunks of their own tasks, whose results are joined
// in order; chunks depend on the number of keys alone, so that results do not depend on the number of threads.
#include "backend/cpu/attention_forward.h"

#include <cmath>
#include <limits>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"

namespace llama_tp {

using namespace forward_attention;

namespace {

// A block of rows: scores of a key tile become probabilities, relative to the largest score so far.
template <class Word>
void softmax(const Buffers<Word>& to, int64_t row, int64_t rows, Range seen, const Range* visible, float scale) {
  constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
  float shift[lanes] = {};
  for (int64_t r = 0; r < rows; r++) {
    float* const scores = to.scores + (row + r) * key_tile;
    std::fill(scores + seen.begin, scores + std::clamp(visible[r].begin, seen.begin, seen.end), minus_infinity);
    std::fill(scores + std::clamp(visible[r].end, seen.begin, seen.end), scores + seen.end, minus_infinity);
    Floats most = all(to.largest[row + r]);
    for (int64_t key = seen.begin; key < seen.end; key += lanes) most = largest(most, load(scores, Whole{key}));
    const float now = largest_lane(most);
    shift[r] = (to.largest[row + r] - now) * scale;  // exactly 0 when it stays: the start is huge
    to.largest[row + r] = now;
  }
  const Floats factors = power_of_two(load(shift, Whole{0}));
  for (int64_t r = 0; r < rows; r++) {
    const float* const scores = to.scores + (row + r) * key_tile;
    const Floats offset = all(to.largest[row + r] * scale);
    Word* const words = to.probabilities + (row + r) * key_tile / per_word<Word>;
    Floats total{};
    for (int64_t key = seen.begin; key < seen.end; key += word_lanes<Word>) {
      Floats p[per_word<Word>];
      for (int64_t i = 0; i < per_word<Word>; i++) {
        p[i] = power_of_two(load(scores, Whole{key + i * lanes}) * scale - offset);
        total += p[i];
      }
      put_along_row(words + key / per_word<Word>, p);
    }
    to.factor[row + r] = factors[r];
    float* const totals = to.total + (row + r) * lanes;
    store(totals, Whole{0}, load(totals, Whole{0}) * factors[r] + total);
  }
}

// Keys transposed, values along keys; both a few rows at a time, and those of the next tile fetched meanwhile: with few
// queries, memory is what takes the time. Returns where the values are.
template <class Word, class Element>
Rows<Word> pack_keys_and_values(const Call& call, const Task& task, const Buffers<Word>& to, int64_t first_key,
                                int64_t keys) {
  const int64_t width = call.sizes.head_dim, columns = call.sizes.columns;
  const int64_t at = (task.kv_head * call.sizes.cache + task.sequence.first_key + first_key) * width;
  const Element *const k = call.k.as<Element>() + at, *const v = call.v.as<Element>() + at;
  const bool as_they_are = std::is_same_v<Word, Element> && columns == width;
  for (int64_t key = 0; key < round_up(keys, word_lanes<Word>); key += lanes) {
    const int64_t rows = std::clamp<int64_t>(keys - key, 0, lanes);
    for (int64_t element = key * width; element < (key + rows) * width; element += 64 / int64_t{sizeof(Element)}) {
      __builtin_prefetch(k + key_tile * width + element, 0, 2);
      __builtin_prefetch(v + key_tile * width + element, 0, 2);
    }
    pack_transposed(k + key * width, width, rows, width, to.k + key, key_tile, lanes);
    if (!as_they_are)
      pack_along_rows(v + key * width, width, rows, width, to.v + key / per_word<Word> * columns, columns, lanes);
  }
  if constexpr (std::is_same_v<Word, Element>)
    if (as_they_are) return {v, width};
  return {to.v, columns};
}

template <class Word, class Element>
void take_key_tile(const Call& call, const Task& task, const Buffers<Word>& to, int64_t first_key, int64_t keys) {
  const Sizes& sizes = call.sizes;
  const Rows<Word> v = pack_keys_and_values<Word, Element>(call, task, to, first_key, keys);
  const float scale = call.options.scale * log2_of_e;
  for (int64_t row = 0; row < task.rows(); row += block_rows<Word>) {
    const int64_t rows = std::min<int64_t>(block_rows<Word>, task.rows() - row);
    Range visible[block_rows<Word>], seen{key_tile, 0};
    for (int64_t r = 0; r < rows; r++) {
      visible[r] = task.sequence.visible(task.query(row + r), call.options.window);
      visible[r] = {visible[r].begin - first_key, std::min(visible[r].end - first_key, keys)};
      seen = {std::min(seen.begin, visible[r].begin), std::max(seen.end, visible[r].end)};
    }
    seen = {std::max<int64_t>(seen.begin, 0) / word_lanes<Word> * word_lanes<Word>,
            round_up(seen.end, word_lanes<Word>)};
    to.seen[row / block_rows<Word>] = seen;
    if (seen.begin >= seen.end) continue;
    multiply_rows(
        rows, seen.end - seen.begin, to.depth, Broadcast<Word>{to.q + row * to.depth_stride, to.depth_stride, 1},
        Rows<Word>{to.k + seen.begin, key_tile}, FromZero{}, to.scores + row * key_tile + seen.begin, key_tile);
    softmax(to, row, rows, seen, visible, scale);
  }
  for (int64_t row = 0; row < task.rows(); row += block_rows<Word>) {
    const Range seen = to.seen[row / block_rows<Word>];
    const int64_t first = seen.begin / per_word<Word>, end = ceil_div(std::min(seen.end, keys), per_word<Word>);
    if (first >= end) continue;
    constexpr int64_t stride = key_tile / per_word<Word>;
    multiply_rows(std::min<int64_t>(block_rows<Word>, task.rows() - row), sizes.columns, end - first,
                  Broadcast<Word>{to.probabilities + row * stride + first, stride, 1},
                  Rows<Word>{v.words + first * v.stride, v.stride}, Scaling{to.factor + row},
                  to.out + row * sizes.columns, sizes.columns);
  }
}

// out = sums / total, lse = ln Σ e^score. A query that sees no key gets 0 and −∞.
template <class Element>
void finish_row(const Call& call, int64_t head, int64_t token, const float* sums, float offset, float total) {
  const int64_t width = call.sizes.head_dim;
  Element* const out = call.out.as<Element>() + (token * call.sizes.heads + head) * width;
  const float inverse = total == 0 ? 0 : 1 / total;
  each_lanes(width, [&](auto i) { store(out, i, load(sums, i) * inverse); });
  if (call.lse.exists())
    call.lse.as<float>()[head * call.sizes.tokens + token] = static_cast<float>(
        (static_cast<double>(offset) + std::log2(static_cast<double>(total))) / static_cast<double>(log2_of_e));
}

template <class Element>
void run_task(const Call& call, const Task& task, const Buffers<WordOf<Element>>& to) {
  const Sizes& sizes = call.sizes;
  for (int64_t head = 0; head < task.heads; head++)
    pack_rows(call.q.as<Element>() + ((task.first_head + head) * sizes.tokens + task.token(0)) * sizes.head_dim,
              sizes.head_dim, task.queries, sizes.head_dim, to.q + head * task.queries * to.depth_stride,
              to.depth_stride);
  std::fill_n(to.out, task.rows() * sizes.columns, 0.0f);
  std::fill_n(to.total, task.rows() * lanes, 0.0f);
  std::fill_n(to.largest, task.rows(), lowest_score);

  const Range keys = task.keys(call);
  for (int64_t key = keys.begin / key_tile * key_tile; key < keys.end; key += key_tile)
    take_key_tile<WordOf<Element>, Element>(call, task, to, key, std::min(key_tile, keys.end - key));

  for (int64_t row = 0; row < task.rows(); row++) {
    const float offset = to.largest[row] * (call.options.scale * log2_of_e);
    const float total = total_of_lanes(load(to.total + row * lanes, Whole{0}));
    const float* const sums = to.out + row * sizes.columns;
    if (sizes.chunks_of(task.sequence) == 1) {
      finish_row<Element>(call, task.head(row), task.token(row), sums, offset, total);
    } else {
      const int64_t at = (task.head(row) * sizes.tokens + task.token(row)) * sizes.chunks + task.chunk;
      std::copy_n(sums, sizes.columns, call.partial.sums + at * sizes.columns);
      call.partial.offset[at] = offset;
      call.partial.total[at] = total;
    }
  }
}

// The chunks of one row, in order. A chunk that the row does not see has a total of 0.
template <class Element>
void join_chunks(const Call& call, const Sequence& sequence, int64_t head, int64_t token) {
  const Sizes& sizes = call.sizes;
  const int64_t first = (head * sizes.tokens + token) * sizes.chunks, chunks = sizes.chunks_of(sequence);
  float* const sums = call.partial.sums + first * sizes.columns;
  float offset = call.partial.offset[first], total = call.partial.total[first];
  for (int64_t chunk = 1; chunk < chunks; chunk++) {
    const float next = call.partial.offset[first + chunk], most = std::max(offset, next);
    const float old_factor = power_of_two(all(offset - most))[0], new_factor = power_of_two(all(next - most))[0];
    const float* const added = sums + chunk * sizes.columns;
    each_lanes(sizes.columns,
               [&](auto i) { store(sums, i, load(sums, i) * old_factor + load(added, i) * new_factor); });
    total = total * old_factor + call.partial.total[first + chunk] * new_factor;
    offset = most;
  }
  finish_row<Element>(call, head, token, sums, offset, total);
}

template <class Element>
int64_t forward(int threads, const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences,
                const AttentionOptions& options, const Tensor& out, const Tensor& lse, void* workspace) {
  Scratch scratch(workspace);
  const Sizes sizes(q, k);
  const int64_t n = sequences.ranges.shape[0];
  int64_t* const first = scratch.take<int64_t>(n + 1);
  const Call call{q, k, v, options, out, lse, sizes, Partial(scratch, sizes)};
  const int64_t before = scratch.used();
  const Buffers<WordOf<Element>> one(scratch, sizes);
  const int64_t each = scratch.used() - before;
  scratch.take<char>(each * (threads - 1));
  if (workspace == nullptr) return scratch.used();

  number_tasks(
      sequences.ranges, [&](const Sequence& s) { return sizes.tasks_of(s); }, first);
  const int team = threads_for(elements_of(sequences.ranges, sizes.heads, sizes.kv_heads, sizes.head_dim), threads);
  parallel_tasks(team, first[n], [&](int64_t index, int thread) {
    const MatrixTiles tiles;
    Scratch mine(static_cast<char*>(workspace) + before + each * thread);
    const Buffers<WordOf<Element>> buffers(mine, sizes);
    const int64_t s = sequence_of_task(first, n, index);
    run_task<Element>(call, Task(call, sequence_at(sequences.ranges, s), index - first[s]), buffers);
  });
  for (int64_t s = 0; s < n && sizes.chunks > 1; s++) {
    const Sequence sequence = sequence_at(sequences.ranges, s);
    if (sizes.chunks_of(sequence) == 1) continue;
    each_row(threads, sizes.heads * sequence.queries, sizes.chunks_of(sequence) * sizes.columns, [&](int64_t row) {
      join_chunks<Element>(call, sequence, row / sequence.queries, sequence.first_query + row % sequence.queries);
    });
  }
  return scratch.used();
}

}  // namespace

int64_t CpuBackend::attention_forward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) {
  int64_t bytes = 0;
  with_type(q.dtype, [&]<class X>(X) { bytes = forward<X>(threads_, q, k, k, sequences, {}, {}, {}, nullptr); });
  return bytes;
}

void CpuBackend::run_attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences,
                                       const AttentionOptions& options, const Tensor& out, const Tensor& lse,
                                       void* workspace) {
  require(options.scale > 0, "attention: a scale of ", options.scale, "; it must be positive");
  with_type(q.dtype, [&]<class X>(X) { forward<X>(threads_, q, k, v, sequences, options, out, lse, workspace); });
}

}  // namespace llama_tp
