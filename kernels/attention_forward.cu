// Attention, forward, on tensor cores (FlashAttention-2: Dao 2023).
//
//   out[t, a·D …] = Σ_j p_j v[g, j],  p_j = exp(scale q[a, t]·k[g, j] − lse),  lse[a, t] = log Σ_j exp(scale q·k)
//
// q: [A, T, D]; k, v: [G, C, D]; out: [T, A·D] bf16; lse: [A, T] f32 or null; head a reads key/value head g = a·G/A.
// A block takes 64 queries of one head, each of its four warps 16 of them, and walks over the keys that they see, 64 at
// a time. Scores and probabilities stay in registers: the sums of the first product, rounded to bf16, are the left
// factor of the second. While one product runs, the other's keys or values are on their way to shared memory.
// Bound by the tensor cores: 4·D FLOP a pair of a query and a key; keys and values are read once a tile of queries,
// from the L2 cache as a rule.
#include "kernels/attention_softmax.h"
#include "kernels/tiles.h"

namespace llama_tp::kernels {

namespace {

constexpr int tile = 64, warps = 4;

template <int head_dim>
struct ForwardTiles {
  Tile<tile, head_dim> q, k, v;
};

template <int head_dim>
__global__ void __launch_bounds__(warps* warp_size)
    attention_forward_kernel(AttentionInputs<bf16> inputs, AttentionShape shape, AttentionOptions options, bf16* out,
                             float* lse) {
  auto& tiles = shared_memory<ForwardTiles<head_dim>>();
  const int64_t head = blockIdx.x, kv_head = head * shape.kv_heads / shape.heads;
  const auto [sequence, first_query] = held_tile<Side::queries>(shape, tile);
  if (first_query >= sequence.queries) return;
  const int queries = static_cast<int>(smaller(tile, sequence.queries - first_query));
  const int own = warp_of_block() * 16;  // first of this warp's rows in the tile

  const bf16* const q = inputs.q + (head * shape.tokens + sequence.first_query + first_query) * head_dim;
  const int64_t first_row = kv_head * shape.cache + sequence.first_key;
  const bf16 *const k = inputs.k + first_row * head_dim, *const v = inputs.v + first_row * head_dim;
  const int begin = sequence.visible(first_query, options.window).begin / tile * tile;
  const int end = sequence.visible(first_query + queries - 1, options.window).end;
  const float scale = options.scale * log2_of_e;  // of scores as powers of two: the GPU's exponential is 2ˣ

  RunningSoftmax running;
  Sums<head_dim> sums;
  set_zero(sums);
  load_async(tiles.q, q, head_dim, queries);
  load_async(tiles.k, k + int64_t{begin} * head_dim, head_dim, sequence.keys - begin);
  commit_copies();
  for (int key = begin; key < end; key += tile) {
    wait_for_copies<0>();
    __syncthreads();  // the keys are here, and all are done with the values before
    load_async(tiles.v, v + int64_t{key} * head_dim, head_dim, sequence.keys - key);
    commit_copies();
    Sums<tile> scores;
    product_of_rows(scores, tiles.q, own, tiles.k);
    hide(scores, sequence, first_query + own, key, options.window);
    scale_rows(sums, softmax(scores, scale, running));

    wait_for_copies<0>();
    __syncthreads();  // the values are here, and all are done with the keys
    if (key + tile < end) {
      load_async(tiles.k, k + int64_t{key + tile} * head_dim, head_dim, sequence.keys - key - tile);
      commit_copies();
    }
    add_product_of_values(sums, scores, tiles.v);
  }
  const int64_t token = sequence.first_query + first_query + own;
  finish(running, scale, sums, lse == nullptr ? nullptr : lse + head * shape.tokens + token, queries - own);
  if (end <= begin) {  // no key was seen, so nobody has waited for the queries
    wait_for_copies<0>();
    __syncthreads();
  }
  store_rows(sums, tiles.q, own, out + (token * shape.heads + head) * head_dim, shape.heads * head_dim, queries - own);
}

}  // namespace

void attention_forward_tiles(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                             const AttentionOptions& options, bf16* out, float* lse) {
  require_positive_scale(options);
  with_head_dim(shape.head_dim, [&]<int head_dim>() {
    launch(stream, "attention_forward", grid_of_tiles<Side::queries>(shape, tile), warps * warp_size,
           sizeof(ForwardTiles<head_dim>), attention_forward_kernel<head_dim>, inputs, shape, options, out, lse);
  });
}

}  // namespace llama_tp::kernels
