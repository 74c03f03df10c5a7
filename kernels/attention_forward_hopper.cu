// Attention, forward, on Hopper (sm_90a; FlashAttention-3: Shah et al. 2024). What attention_forward.cu computes, for
// heads of 64 and 128:
//
//   out[t, a·D …] = Σ_j p_j v[g, j],  p_j = exp(scale q[a, t]·k[g, j] − lse),  lse[a, t] = log Σ_j exp(scale q·k)
//
// q: [A, T, D]; k, v: [G, C, D]; out: [T, A·D] bf16; lse: [A, T] f32 or null; head a reads key/value head g = a·G/A.
// A block takes 128 queries of one head and walks over the keys that they see, 128 at a time. One warp brings tiles of
// keys and values to a ring of two each and keeps few registers; two warpgroups have 64 queries each. Of these, scores
// of the next tile and the product with the values of this one are under way while softmax waits for its scores, and
// softmax runs while the product with the values goes on.
// A tile of rows may reach over its sequence's end. What is read there is another's: scores are hidden, values are
// set to zero before they are used (0 times NaN is NaN), and outputs are stored row by row.
// Bound by the tensor cores: 4·D FLOP a pair of a query and a key; keys and values are read once a tile of queries,
// from the L2 cache as a rule.
#include "kernels/attention_hopper.h"
#include "kernels/attention_softmax.h"

namespace llama_tp::kernels {

namespace {

constexpr int tile_keys = 128, stages = 2;

template <int head_dim>
struct HopperTiles {
  SwizzledTile<rows_a_consumer, head_dim> q[consumers];
  SwizzledTile<tile_keys, head_dim> k[stages], v[stages];
  MemoryBarrier q_full, v_landed;
  RingBarriers<stages> k_ring, v_ring;
};

struct Work {
  Sequence sequence;
  int head, kv_head, first_query;
  int begin, end;  // of the keys that any of these queries sees, from the first one of a tile
};

// By one thread.
template <int head_dim>
__device__ __forceinline__ void initialize(HopperTiles<head_dim>& tiles) {
  initialize(tiles.q_full, 1);
  initialize(tiles.v_landed, 1);
  initialize(tiles.k_ring, 1);
  initialize(tiles.v_ring, 1);
  fence_async_proxy();
}

// ---- the warp that brings the tiles

template <int head_dim>
__device__ __forceinline__ void bring_tiles(HopperTiles<head_dim>& tiles, const TensorMap& q, const TensorMap& k,
                                            const TensorMap& v, const Work& work) {
  const Sequence& sequence = work.sequence;
  if (lane_of_warp() == 0) {
    arrive_and_expect(tiles.q_full, consumers * tiles.q[0].bytes);
    copy_held(tiles.q, {q, sequence.first_query + work.first_query, work.head}, tiles.q_full);
  }
  Landing landing{tiles.v_landed};
  Turn<stages> turn;
  for (int key = work.begin; key < work.end; key += tile_keys, turn.advance()) {
    const int stage = turn.stage, row = sequence.first_key + key;
    if (lane_of_warp() == 0) wait_until_empty(tiles.k_ring, turn);
    bring(tiles.k[stage], {k, row, work.kv_head}, tiles.k_ring.full[stage]);
    if (lane_of_warp() == 0) wait_until_empty(tiles.v_ring, turn);
    bring_cleared(tiles.v[stage], {v, row, work.kv_head}, sequence.keys - key, tiles.v_ring.full[stage], landing);
  }
}

// ---- the warpgroups that compute

// sums and running for the sixteen queries of this warp.
template <int head_dim>
__device__ __forceinline__ void attend(HopperTiles<head_dim>& tiles, const Work& work, float scale, int64_t window,
                                       Sums<head_dim>& sums, RunningSoftmax& running) {
  const auto& q = tiles.q[warpgroup_of_block()];
  const int own = work.first_query + warp_of_block() * 16;
  Sums<tile_keys> scores;
  LeftFactors<tile_keys> p;  // probabilities
  set_zero(scores);
  wait_for(tiles.q_full, 0);
  Turn<stages> now, next;
  wait_until_full(tiles.k_ring, next);
  fence_products(scores);
  begin_scores(scores, q, tiles.k[0]);
  wait_for_products<0>(scores);
  give_back(tiles.k_ring, 0);
  hide(scores, work.sequence, own, work.begin, window);
  softmax(scores, scale, running);
  round_pairs(p, scores);
  wait_until_full(tiles.v_ring, now);

  for (int key = work.begin + tile_keys; key < work.end; key += tile_keys, now = next) {
    next.advance();
    wait_until_full(tiles.k_ring, next);
    fence_products(scores);
    begin_scores(scores, q, tiles.k[next.stage]);
    fence_products(sums, p);
    begin_sums(sums, p, tiles.v[now.stage]);

    wait_for_products<1>(scores);
    give_back(tiles.k_ring, next.stage);
    hide(scores, work.sequence, own, key, window);
    const RowFactors factors = softmax(scores, scale, running);
    wait_until_full_behind(running.total[0] + running.total[1], tiles.v_ring, next);
    wait_for_products<0>(sums);
    give_back(tiles.v_ring, now.stage);
    scale_rows(sums, factors);
    round_pairs(p, scores);
  }
  fence_products(sums, p);
  begin_sums(sums, p, tiles.v[now.stage]);
  wait_for_products<0>(sums);
}

// ---- the kernel

template <int head_dim>
__global__ void __launch_bounds__(hopper_threads, 1)
    attention_forward_hopper_kernel(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                                    const __grid_constant__ TensorMap v, AttentionShape shape, AttentionOptions options,
                                    bf16* out, float* lse) {
  if constexpr (has_hopper_instructions) {
    auto& tiles = shared_memory<HopperTiles<head_dim>>();
    const HeldQueries held(shape);
    Work work{sequence_at(shape.ranges, blockIdx.z), held.head, held.kv_head, held.first, 0, 0};
    const Sequence& sequence = work.sequence;
    if (work.first_query >= sequence.queries) return;
    const int queries = static_cast<int>(smaller(held_rows, sequence.queries - work.first_query));
    work.begin = sequence.visible(work.first_query, options.window).begin / tile_keys * tile_keys;
    work.end = sequence.visible(work.first_query + queries - 1, options.window).end;

    if (threadIdx.x == 0) initialize(tiles);
    __syncthreads();
    if (warp_of_block() >= consumer_warps) {
      give_registers<producer_registers>();
      if (warp_of_block() == consumer_warps && work.begin < work.end) bring_tiles(tiles, q, k, v, work);
      return;
    }
    take_registers<consumer_registers>();
    const float scale = options.scale * log2_of_e;
    RunningSoftmax running;
    Sums<head_dim> sums;
    set_zero(sums);
    if (work.begin < work.end) attend(tiles, work, scale, options.window, sums, running);
    const int own = warp_of_block() * 16;
    const int64_t token = sequence.first_query + work.first_query + own;
    finish(running, scale, sums, lse == nullptr ? nullptr : lse + work.head * shape.tokens + token, queries - own);
    store_directly(sums, out + (token * shape.heads + work.head) * head_dim, shape.heads * head_dim, queries - own);
  }
}

template <int head_dim>
void start(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
           const AttentionOptions& options, bf16* out, float* lse) {
  const TensorMap q = map_of_heads(inputs.q, shape.heads, shape.tokens, head_dim, rows_a_consumer);
  const TensorMap k = map_of_heads(inputs.k, shape.kv_heads, shape.cache, head_dim, tile_keys);
  const TensorMap v = map_of_heads(inputs.v, shape.kv_heads, shape.cache, head_dim, tile_keys);
  launch(stream, "attention_forward_hopper", blocks_of_queries(shape), hopper_threads, sizeof(HopperTiles<head_dim>),
         attention_forward_hopper_kernel<head_dim>, q, k, v, shape, options, out, lse);
}

}  // namespace

bool has_hopper_tiles(int64_t head_dim) { return head_dim == 64 || head_dim == 128; }

void attention_forward_hopper(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                              const AttentionOptions& options, bf16* out, float* lse) {
  with_hopper_head_dim(shape.head_dim,
                       [&]<int head_dim>() { start<head_dim>(stream, inputs, shape, options, out, lse); });
}

}  // namespace llama_tp::kernels
