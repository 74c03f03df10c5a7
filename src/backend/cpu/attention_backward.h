// How attention's backward direction is cut into tasks, and what a thread holds while it works on one. Included by
// attention_backward.cpp alone.
#pragma once

#include <atomic>

#include "backend/cpu/attention.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/tile.h"

namespace llama_tp::backward_attention {

inline constexpr int64_t key_tile = 64, query_tile = 64;

struct Sizes {
  Sizes(const Tensor& q, const Tensor& k)
      : heads(q.shape[0]),
        tokens(q.shape[1]),
        head_dim(q.shape[2]),
        kv_heads(k.shape[0]),
        columns(round_up(head_dim, lanes)),
        group(heads / kv_heads) {}

  int64_t tasks_of(const Sequence& sequence) const { return kv_heads * ceil_div(sequence.keys, key_tile); }

  int64_t heads, tokens, head_dim, kv_heads, columns, group;
};

// What a thread needs for a task. "along" names the sum that pairs of bf16 lie along.
template <class Word>
struct Buffers {
  static constexpr int64_t keys = key_tile / per_word<Word>, queries = query_tile / per_word<Word>;  // words

  Buffers(Scratch& scratch, const Sizes& sizes)
      : depth(ceil_div(sizes.head_dim, per_word<Word>)),
        depth_stride(round_up(depth, lanes)),
        k_transposed(scratch.take<Word>(depth_stride * key_tile)),
        v_transposed(scratch.take<Word>(depth_stride * key_tile)),
        k(scratch.take<Word>(keys * sizes.columns)),
        q_rows(scratch.take<Word>(query_tile * depth_stride)),
        dout_rows(scratch.take<Word>(query_tile * depth_stride)),
        q(scratch.take<Word>(queries * sizes.columns)),
        dout(scratch.take<Word>(queries * sizes.columns)),
        scores(scratch.take<float>(block_rows<Word> * key_tile)),
        dscores(scratch.take<float>(block_rows<Word> * key_tile)),
        p_along_queries(scratch.take<Word>(queries * key_tile)),
        ds_along_queries(scratch.take<Word>(queries * key_tile)),
        ds_along_keys(std::is_same_v<Word, float> ? ds_along_queries : scratch.take<Word>(query_tile * keys)),
        dq(scratch.take<float>(query_tile * sizes.columns)),
        dk(scratch.take<float>(key_tile * sizes.columns)),
        dv(scratch.take<float>(key_tile * sizes.columns)),
        seen(scratch.take<Range>(query_tile / block_rows<Word>)) {}

  int64_t depth, depth_stride;               // words in a head
  Word *k_transposed, *v_transposed;         // [depth, keys]
  Word* k;                                   // [keys / per_word, columns]
  Word *q_rows, *dout_rows;                  // [queries, depth]
  Word *q, *dout;                            // [queries / per_word, columns]
  float *scores, *dscores;                   // [block of queries, keys]
  Word *p_along_queries, *ds_along_queries;  // [queries / per_word, keys]
  Word* ds_along_keys;                       // [queries, keys / per_word]; the same where a word is one float
  float *dq, *dk, *dv;                       // [queries or keys, columns]
  Range* seen;  // of the key tile by each block of queries, rounded outwards to whole vectors
};

struct Call {
  const Tensor &dout, &q, &k, &v, &out, &lse;
  AttentionOptions options;
  const Tensor &dq, &dk, &dv;
  Sizes sizes;
  float* delta;                // [heads, tokens]
  float* dq_sums;              // [heads, tokens, head_dim]; dq itself where that is f32
  int64_t tiles;               // of queries, of all sequences together
  std::atomic<int32_t>* turn;  // [heads, tiles]: the key tile whose addend comes next
};

struct Task {
  Sequence sequence;
  int64_t first_tile;  // number of the sequence's first tile of queries
  int64_t kv_head, first_key, keys;

  // Neighbouring tasks are of different heads, so that they seldom wait for each other.
  Task(const Sequence& from, int64_t kv_heads, int64_t tile, int64_t index) : sequence(from), first_tile(tile) {
    kv_head = index % kv_heads;
    first_key = index / kv_heads * key_tile;
    keys = std::min(key_tile, sequence.keys - first_key);
  }
  int64_t key_row(const Call& call) const { return kv_head * call.sizes.tokens + sequence.first_key + first_key; }
};

struct QueryTile {
  int64_t head, first, count;  // within the sequence
  int64_t token;               // of the first
  std::atomic<int32_t>* turn;
};

}  // namespace llama_tp::backward_attention
