// The gradient of attention; probabilities are computed again from the log of their sum (Dao et al. 2022):
//   P = exp(scale q·k − lse)    dv = Pᵀ dout    dS = P ∘ (dout·v − δ), δ = dout·out
//   dq = scale dS k             dk = scale dSᵀ q
// A task takes a tile of keys and walks over the queries that see them, in the order of heads and positions, so that dk
// and dv are sums in a fixed order. Each tile of dq gets its addends in the order of the key tiles: a task waits until
// the one before it has added. It cannot wait for ever, since tasks are begun in that order.
#include "backend/cpu/attention_backward.h"

#include <omp.h>

#include <atomic>
#include <thread>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"

namespace llama_tp {

using namespace backward_attention;

namespace {

// Probabilities and their gradients of one row, or of two whose elements become pairs, for one or two vectors of keys.
inline void put(const Buffers<float>& to, int64_t row, int64_t key, const Floats (&p)[1][1], const Floats (&ds)[1][1]) {
  const Whole at{row * key_tile + key};
  store(to.p_along_queries, at, p[0][0]);
  store(to.ds_along_queries, at, ds[0][0]);
}
#if defined(__AVX512BF16__)
inline void put(const Buffers<Pair>& to, int64_t row, int64_t key, const Floats (&p)[2][2], const Floats (&ds)[2][2]) {
  for (int64_t half = 0; half < 2; half++) {
    const Whole at{row / 2 * key_tile + key + half * lanes};
    store_bits(to.p_along_queries, at, paired(p[0][half], p[1][half]));
    store_bits(to.ds_along_queries, at, paired(ds[0][half], ds[1][half]));
  }
  for (int64_t i = 0; i < 2; i++) put_along_row(to.ds_along_keys + (row + i) * to.keys + key / 2, ds[i]);
}
#endif

// Both products of a block of queries with the key tile; from them P and dS.
template <class Word>
void differentiate_block(const Call& call, const Task& task, const QueryTile& tile, Broadcast<Word> q,
                         Broadcast<Word> dout, const Buffers<Word>& to, int64_t row) {
  const int64_t rows = std::min<int64_t>(block_rows<Word>, tile.count - row), window = call.options.window;
  Range visible[block_rows<Word>] = {}, seen{key_tile, 0};
  float lse[block_rows<Word>] = {}, delta[block_rows<Word>] = {};
  for (int64_t r = 0; r < rows; r++) {
    visible[r] = task.sequence.visible(tile.first + row + r, window);
    visible[r] = {visible[r].begin - task.first_key, std::min(visible[r].end - task.first_key, task.keys)};
    seen = {std::min(seen.begin, visible[r].begin), std::max(seen.end, visible[r].end)};
    const int64_t at = tile.head * call.sizes.tokens + tile.token + row + r;
    lse[r] = call.lse.as<float>()[at] * log2_of_e;
    delta[r] = call.delta[at];
  }
  seen = {std::max<int64_t>(seen.begin, 0) / word_lanes<Word> * word_lanes<Word>, round_up(seen.end, word_lanes<Word>)};
  to.seen[row / block_rows<Word>] = seen;
  if (seen.begin >= seen.end) return;
  const auto product = [&](Broadcast<Word> a, const Word* b, float* c) {
    multiply_rows(rows, seen.end - seen.begin, to.depth, Broadcast<Word>{a.words + row * a.row, a.row, a.depth},
                  Rows<Word>{b + seen.begin, key_tile}, FromZero{}, c + seen.begin, key_tile);
  };
  product(q, to.k_transposed, to.scores);
  product(dout, to.v_transposed, to.dscores);

  const float scale = call.options.scale * log2_of_e;
  for (int64_t r = 0; r < block_rows<Word>; r += per_word<Word>)
    for (int64_t key = seen.begin; key < seen.end; key += word_lanes<Word>) {
      Floats p[per_word<Word>][per_word<Word>] = {}, ds[per_word<Word>][per_word<Word>] = {};  // 0 past the last query
      for (int64_t i = 0; i < per_word<Word> && r + i < rows; i++)
        for (int64_t part = 0; part < per_word<Word>; part++) {
          const int64_t first = key + part * lanes;
          const Whole at{(r + i) * key_tile + first};
          p[i][part] = within({visible[r + i].begin - first, visible[r + i].end - first},
                              power_of_two(load(to.scores, at) * scale - lse[r + i]));
          ds[i][part] = p[i][part] * (load(to.dscores, at) - delta[r + i]);
        }
      put(to, row + r, key, p, ds);
    }
}

// dq of a tile of queries is the sum over key tiles in their order; the last one scales and writes it.
template <class Element>
void add_to_dq(const Call& call, const Task& task, const QueryTile& tile, const float* added) {
  const auto number = static_cast<int32_t>(task.first_key / key_tile);
  for (int spins = 0; tile.turn->load(std::memory_order_acquire) != number; spins++)
    if (spins > 1000) std::this_thread::yield();
  const int64_t window = call.options.window, width = call.sizes.head_dim;
  const Range seen{task.sequence.visible(tile.first, window).begin,
                   task.sequence.visible(tile.first + tile.count - 1, window).end};
  const bool first = task.first_key <= seen.begin, last = seen.end <= task.first_key + key_tile;
  for (int64_t row = 0; row < tile.count; row++) {
    const int64_t at = (tile.head * call.sizes.tokens + tile.token + row) * width;
    float* const sums = call.dq_sums + at;
    Element* const dq = call.dq.as<Element>() + at;
    each_lanes(width, [&](auto i) {
      Floats sum = load(added + row * call.sizes.columns, i);
      if (!first) sum = load(sums, i) + sum;
      if (last)
        store(dq, i, sum * call.options.scale);
      else
        store(sums, i, sum);
    });
  }
  tile.turn->store(number + 1, std::memory_order_release);
}

// dv += Pᵀ dout and dk += dSᵀ q, over the queries of the tile that see the keys, four keys at a time.
template <class Word>
void add_to_dk_and_dv(const Call& call, const Task& task, const QueryTile& tile, Rows<Word> q, Rows<Word> dout,
                      const Buffers<Word>& to) {
  const int64_t columns = call.sizes.columns;
  for (int64_t key = 0; key < task.keys; key += block_rows<Word>) {
    const int64_t rows = std::min<int64_t>(block_rows<Word>, task.keys - key);
    const Range viewers =
        task.sequence.viewers({task.first_key + key, task.first_key + key + rows}, call.options.window);
    const int64_t begin = std::max(viewers.begin - tile.first, int64_t{0}) / per_word<Word>;
    const int64_t end = ceil_div(std::min(viewers.end - tile.first, tile.count), per_word<Word>);
    if (begin >= end) continue;
    const auto product = [&](const Word* a, Rows<Word> b, float* c) {
      multiply_rows(rows, columns, end - begin, Broadcast<Word>{a + begin * key_tile + key, 1, key_tile},
                    Rows<Word>{b.words + begin * b.stride, b.stride}, Adding{}, c + key * columns, columns);
    };
    product(to.p_along_queries, dout, to.dv);
    product(to.ds_along_queries, q, to.dk);
  }
}

template <class Element>
void take_query_tile(const Call& call, const Task& task, const QueryTile& tile, Rows<WordOf<Element>> k,
                     const Buffers<WordOf<Element>>& to) {
  using Word = WordOf<Element>;
  const Sizes& sizes = call.sizes;
  const int64_t width = sizes.head_dim, columns = sizes.columns, dout_stride = sizes.heads * width;
  const Element* const q = call.q.as<Element>() + (tile.head * sizes.tokens + tile.token) * width;
  const Element* const dout = call.dout.as<Element>() + tile.token * dout_stride + tile.head * width;
  const Broadcast<Word> q_rows = rows_operand(q, width, tile.count, width, to.q_rows, to.depth_stride);
  const Broadcast<Word> dout_rows = rows_operand(dout, dout_stride, tile.count, width, to.dout_rows, to.depth_stride);
  const int64_t padded = round_up(tile.count, per_word<Word>);
  const Rows<Word> q_columns = columns_operand(q, width, tile.count, width, to.q, columns, padded);
  const Rows<Word> dout_columns = columns_operand(dout, dout_stride, tile.count, width, to.dout, columns, padded);

  for (int64_t row = 0; row < tile.count; row += block_rows<Word>)
    differentiate_block(call, task, tile, q_rows, dout_rows, to, row);
  add_to_dk_and_dv(call, task, tile, q_columns, dout_columns, to);
  for (int64_t row = 0; row < tile.count; row += block_rows<Word>) {
    const Range seen = to.seen[row / block_rows<Word>];
    const int64_t first = seen.begin / per_word<Word>;
    const int64_t end = std::max(ceil_div(std::min(seen.end, task.keys), per_word<Word>), first);
    multiply_rows(std::min<int64_t>(block_rows<Word>, tile.count - row), columns, end - first,
                  Broadcast<Word>{to.ds_along_keys + row * to.keys + first, to.keys, 1},
                  Rows<Word>{k.words + first * k.stride, k.stride}, FromZero{}, to.dq + row * columns, columns);
  }
  add_to_dq<Element>(call, task, tile, to.dq);
}

template <class Element>
void run_task(const Call& call, const Task& task, const Buffers<WordOf<Element>>& to) {
  const Sizes& sizes = call.sizes;
  const int64_t width = sizes.head_dim, at = task.key_row(call) * width;
  pack_transposed(call.k.as<Element>() + at, width, task.keys, width, to.k_transposed, key_tile, key_tile);
  pack_transposed(call.v.as<Element>() + at, width, task.keys, width, to.v_transposed, key_tile, key_tile);
  const auto k = columns_operand(call.k.as<Element>() + at, width, task.keys, width, to.k, sizes.columns,
                                 round_up(task.keys, per_word<WordOf<Element>>));
  std::fill_n(to.dk, key_tile * sizes.columns, 0.0f);
  std::fill_n(to.dv, key_tile * sizes.columns, 0.0f);

  const Range viewers = task.sequence.viewers({task.first_key, task.first_key + task.keys}, call.options.window);
  for (int64_t head = task.kv_head * sizes.group; head < (task.kv_head + 1) * sizes.group; head++)
    for (int64_t query = viewers.begin / query_tile * query_tile; query < viewers.end; query += query_tile) {
      const int64_t number = head * call.tiles + task.first_tile + query / query_tile;
      take_query_tile<Element>(call, task,
                               {head, query, std::min(query_tile, task.sequence.queries - query),
                                task.sequence.first_query + query, call.turn + number},
                               k, to);
    }

  for (int64_t key = 0; key < task.keys; key++)
    each_lanes(width, [&](auto i) {
      store(call.dk.as<Element>() + at + key * width, i, load(to.dk + key * sizes.columns, i) * call.options.scale);
      store(call.dv.as<Element>() + at + key * width, i, load(to.dv + key * sizes.columns, i));
    });
}

// δ = dout · out for each head and token, and whose turn it is first.
template <class Element>
void prepare(int threads, const Call& call, const Tensor& ranges, const int64_t* first_tile) {
  const Sizes& sizes = call.sizes;
  each_row(threads, sizes.tokens, sizes.heads * sizes.head_dim, [&](int64_t token) {
    for (int64_t head = 0; head < sizes.heads; head++) {
      const int64_t at = (token * sizes.heads + head) * sizes.head_dim;
      call.delta[head * sizes.tokens + token] = sum_of(sizes.head_dim, [&](auto i) {
        return load(call.dout.as<Element>() + at, i) * load(call.out.as<Element>() + at, i);
      });
    }
  });
  for (int64_t s = 0; s < ranges.shape[0]; s++) {
    const Sequence sequence = sequence_at(ranges, s);
    for (int64_t tile = 0; tile * query_tile < sequence.queries; tile++) {
      const int64_t first = sequence.visible(tile * query_tile, call.options.window).begin / key_tile;
      for (int64_t head = 0; head < sizes.heads; head++)
        std::construct_at(call.turn + head * call.tiles + first_tile[s] + tile, static_cast<int32_t>(first));
    }
  }
}

// Runs, or only counts the workspace if that is null.
template <class Element>
int64_t backward(int threads, Call call, const Sequences& sequences, void* workspace) {
  Scratch scratch(workspace);
  const Sizes& sizes = call.sizes;
  const Tensor& ranges = sequences.ranges;
  const int64_t n = ranges.shape[0];
  call.tiles = ceil_div(sizes.tokens, query_tile) + n;  // no fewer than there are
  int64_t* const first_task = scratch.take<int64_t>(n + 1);
  int64_t* const first_tile = scratch.take<int64_t>(n + 1);
  call.delta = scratch.take<float>(sizes.heads * sizes.tokens);
  call.turn = scratch.take<std::atomic<int32_t>>(sizes.heads * call.tiles);
  call.dq_sums = std::is_same_v<Element, float> ? call.dq.as<float>()
                                                : scratch.take<float>(sizes.heads * sizes.tokens * sizes.head_dim);
  const int64_t before = scratch.used();
  const Buffers<WordOf<Element>> one(scratch, sizes);
  const int64_t each = scratch.used() - before;
  scratch.take<char>(each * (threads - 1));
  if (workspace == nullptr) return scratch.used();

  number_tasks(
      ranges, [&](const Sequence& s) { return sizes.tasks_of(s); }, first_task);
  number_tasks(
      ranges, [&](const Sequence& s) { return ceil_div(s.queries, query_tile); }, first_tile);
  prepare<Element>(threads, call, ranges, first_tile);
  const int team = threads_for(elements_of(ranges, sizes.heads, sizes.kv_heads, sizes.head_dim), threads);
  parallel_tasks(team, first_task[n], [&](int64_t index, int thread) {
    const MatrixTiles tiles;
    Scratch mine(static_cast<char*>(workspace) + before + each * thread);
    const Buffers<WordOf<Element>> buffers(mine, sizes);
    const int64_t s = sequence_of_task(first_task, n, index);
    run_task<Element>(call, Task(sequence_at(ranges, s), sizes.kv_heads, first_tile[s], index - first_task[s]),
                      buffers);
  });
  return scratch.used();
}

}  // namespace

int64_t CpuBackend::attention_backward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) {
  int64_t bytes = 0;
  const Call call{q, q, k, k, q, q, {}, q, k, k, Sizes(q, k), nullptr, nullptr, 0, nullptr};
  with_type(q.dtype, [&]<class X>(X) { bytes = backward<X>(threads_, call, sequences, nullptr); });
  return bytes;
}

void CpuBackend::run_attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                        const Tensor& out, const Tensor& lse, const Sequences& sequences,
                                        const AttentionOptions& options, const Tensor& dq, const Tensor& dk,
                                        const Tensor& dv, void* workspace) {
  const Call call{dout, q, k, v, out, lse, options, dq, dk, dv, Sizes(q, k), nullptr, nullptr, 0, nullptr};
  with_type(q.dtype, [&]<class X>(X) { backward<X>(threads_, call, sequences, workspace); });
}

}  // namespace llama_tp
