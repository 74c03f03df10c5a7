// The tokens of one forward as the model sees them: a flat run of T tokens in which each sequence is a range.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace llama_tp {

// Successive tokens that rotate by the rotary frequencies of a sequence of this length.
struct RotaryRun {
  int64_t tokens = 0, length = 0;
};

struct Batch {
  Tensor numbers;    // those below, one behind the other, each at a multiple of 16 bytes: they are uploaded at once
  Tensor ids;        // [T] i32
  Tensor targets;    // [T] i32, the id that follows, or ignored_label
  Tensor positions;  // [T] i32, from 0 in each sequence
  Tensor slots;      // [T] i32, the row of keys and values that token t fills
  Sequences sequences;
  int64_t window = 0;             // of the model's windowed attention, whose pairs `sequences` counts
  std::vector<RotaryRun> rotary;  // of all tokens: each sequence rotates as it would alone, whatever shares its forward
  std::vector<int32_t> staging;   // numbers in host memory, to upload them from; empty in a rehearsal

  int64_t tokens() const { return ids.shape[0]; }
};

// The same in host memory, for building.
struct HostBatch {
  std::vector<int32_t> ids, targets, positions, slots, ranges;
  std::vector<RotaryRun> rotary;
  int64_t tokens = 0, longest_query = 0, longest_key = 0;

  void clear();
  // Appends a sequence whose queries follow `past` tokens that the cache holds; its keys begin at row first_key.
  // targets may be empty. length: of the whole sequence, where later batches have more of its tokens.
  void append(std::span<const int32_t> sequence, std::span<const int32_t> following, int64_t past, int64_t first_key,
              int64_t length = 0);
  // The same of `count` tokens that are not there: all that a rehearsal looks at.
  void append_range(int64_t count, int64_t past, int64_t first_key, int64_t length = 0);
};

// How many pairs of a query and a key that it sees a causal sequence has: queries that follow `past` tokens and see at
// most the last `window` keys (AttentionOptions).
int64_t causal_pairs(int64_t queries, int64_t past, int64_t window);

// Takes a batch's numbers from `arena` (pushed at its bottom). window: the model's.
Batch push_batch(Arena& arena, int64_t tokens, int64_t sequences, int64_t window);
// Copies host values into the tensors, in one copy: on a device each takes longer than a few numbers. Errors: another
// number of tokens or sequences.
void upload(Backend& backend, const HostBatch& host, Batch& batch);

}  // namespace llama_tp
