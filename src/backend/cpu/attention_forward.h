// How attention's forward direction is cut into tasks, and what a thread holds while it works on one. Included by
// attention_forward.cpp alone.
#pragma once

#include "backend/cpu/attention.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/tile.h"

namespace llama_tp::forward_attention {

inline constexpr int64_t key_tile = 128;
inline constexpr int64_t rows_wanted = 128;  // of queries times heads in a task: what the packing of keys is shared by
inline constexpr int64_t most_heads = 8;     // in a task
inline constexpr int64_t splitting_tokens = 8;  // with more, there are tasks enough
inline constexpr int64_t key_chunk = 256;

struct Sizes {
  Sizes(const Tensor& q, const Tensor& k)
      : heads(q.shape[0]),
        tokens(q.shape[1]),
        head_dim(q.shape[2]),
        kv_heads(k.shape[0]),
        cache(k.shape[1]),
        columns(round_up(head_dim, lanes)),
        group(heads / kv_heads),
        head_blocks(ceil_div(group, most_heads)),
        heads_together(ceil_div(group, head_blocks)),
        query_tile(std::max<int64_t>(rows_wanted / heads_together / tile_rows * tile_rows, tile_rows)),
        chunks(tokens <= splitting_tokens ? std::max<int64_t>(ceil_div(cache, key_chunk), 1) : 1) {}

  int64_t rows() const { return heads_together * query_tile; }
  int64_t chunks_of(const Sequence& sequence) const { return chunks == 1 ? 1 : ceil_div(sequence.keys, key_chunk); }
  int64_t tasks_of(const Sequence& sequence) const {
    return kv_heads * head_blocks * ceil_div(sequence.queries, query_tile) * chunks_of(sequence);
  }

  int64_t heads, tokens, head_dim, kv_heads, cache, columns, group, head_blocks, heads_together, query_tile, chunks;
};

// Unnormalized sums of a row over one chunk of keys: Σ 2^(score − offset) v and Σ 2^(score − offset).
struct Partial {
  float *sums, *offset, *total;  // [heads, tokens, chunks, columns], [heads, tokens, chunks] twice

  Partial(Scratch& scratch, const Sizes& sizes) {
    const int64_t n = sizes.chunks == 1 ? 0 : sizes.heads * sizes.tokens * sizes.chunks;
    sums = scratch.take<float>(n * sizes.columns);
    offset = scratch.take<float>(n);
    total = scratch.take<float>(n);
  }
};

// What a thread needs for a task. Rows are (head, query) pairs, head by head.
template <class Word>
struct Buffers {
  Buffers(Scratch& scratch, const Sizes& sizes)
      : depth(ceil_div(sizes.head_dim, per_word<Word>)),
        depth_stride(round_up(depth, lanes)),
        q(scratch.take<Word>(sizes.rows() * depth_stride)),
        k(scratch.take<Word>(depth_stride * key_tile)),
        v(scratch.take<Word>(key_tile / per_word<Word> * sizes.columns)),
        scores(scratch.take<float>(sizes.rows() * key_tile)),
        probabilities(take_words(scratch, sizes.rows() * key_tile)),
        out(scratch.take<float>(sizes.rows() * sizes.columns)),
        largest(scratch.take<float>(sizes.rows())),
        factor(scratch.take<float>(sizes.rows())),
        total(scratch.take<float>(sizes.rows() * lanes)),
        seen(scratch.take<Range>(sizes.rows() / block_rows<Word> + 1)) {}

  // Where a word is one float, probabilities take the place of scores.
  Word* take_words(Scratch& scratch, int64_t n) const {
    if constexpr (std::is_same_v<Word, float>)
      return scores;
    else
      return scratch.take<Word>(n / per_word<Word>);
  }

  int64_t depth, depth_stride;  // words in a head
  Word *q, *k, *v;              // [rows, depth], [depth, keys], [keys / per_word, columns]
  float* scores;                // [rows, keys]
  Word* probabilities;          // [rows, keys / per_word]
  float* out;                   // [rows, columns], unnormalized
  float *largest, *factor;      // [rows]: the largest score so far; by what a tile rescales the sums before it
  float* total;                 // [rows, lanes], to be added up at the end
  Range* seen;                  // of the key tile by each block of rows, rounded outwards to whole vectors of words
};

struct Call {
  const Tensor &q, &k, &v;
  const AttentionOptions& options;
  const Tensor &out, &lse;
  Sizes sizes;
  Partial partial;
};

struct Task {
  Sequence sequence;
  int64_t first_head, heads, kv_head;
  int64_t first_query, queries;  // within the sequence
  int64_t chunk;

  Task(const Call& call, const Sequence& from, int64_t index) : sequence(from) {
    const Sizes& sizes = call.sizes;
    const int64_t chunks = sizes.chunks_of(sequence), tiles = ceil_div(sequence.queries, sizes.query_tile);
    chunk = index % chunks;
    // The last queries see the most keys: longest tasks first.
    const int64_t tile = tiles - 1 - index / chunks % tiles, block = index / chunks / tiles;
    kv_head = block / sizes.head_blocks;
    const int64_t within = block % sizes.head_blocks * sizes.heads_together;
    first_head = kv_head * sizes.group + within;
    heads = std::min(sizes.heads_together, sizes.group - within);
    first_query = tile * sizes.query_tile;
    queries = std::min(sizes.query_tile, sequence.queries - first_query);
  }

  int64_t rows() const { return heads * queries; }
  int64_t head(int64_t row) const { return first_head + row / queries; }
  int64_t query(int64_t row) const { return first_query + row % queries; }
  int64_t token(int64_t row) const { return sequence.first_query + query(row); }
  // The keys to walk over: what the tile's queries see, of this chunk.
  Range keys(const Call& call) const {
    const int64_t window = call.options.window;
    Range range{sequence.visible(first_query, window).begin, sequence.visible(first_query + queries - 1, window).end};
    if (call.sizes.chunks_of(sequence) > 1)
      range = {std::max(range.begin, chunk * key_chunk), std::min(range.end, (chunk + 1) * key_chunk)};
    return range;
  }
};

}  // namespace llama_tp::forward_attention
