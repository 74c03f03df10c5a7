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

constexpr int tile_keys = 128;

template <int head_dim>
struct HopperTiles {
  SwizzledTile<rows_a_consumer, head_dim> q[consumers];
  SwizzledTile<tile_keys, head_dim> k[stages], v[stages];
  // Full: the tile is there. Empty: each warp of the consumers is done with it.
  MemoryBarrier q_full, k_full[stages], k_empty[stages], v_full[stages], v_empty[stages];
  MemoryBarrier last_v_landed;
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
  initialize(tiles.last_v_landed, 1);
  for (int stage = 0; stage < stages; stage++) {
    initialize(tiles.k_full[stage], 1);
    initialize(tiles.v_full[stage], 1);
    initialize(tiles.k_empty[stage], consumer_warps);
    initialize(tiles.v_empty[stage], consumer_warps);
  }
  fence_async_proxy();
}

// ---- the warp that brings the tiles

// By one lane.
template <class AnyTile>
__device__ __forceinline__ void bring(AnyTile& tile, const TensorMap& map, int first_row, int head,
                                      MemoryBarrier& full) {
  arrive_and_expect(full, AnyTile::bytes);
  copy_rows(tile, map, first_row, head, full);
}

template <int head_dim>
__device__ __forceinline__ void bring_tiles(HopperTiles<head_dim>& tiles, const TensorMap& q, const TensorMap& k,
                                            const TensorMap& v, const Work& work) {
  const Sequence& sequence = work.sequence;
  if (lane_of_warp() == 0) {
    arrive_and_expect(tiles.q_full, consumers * tiles.q[0].bytes);
    for (int i = 0; i < consumers; i++)
      copy_rows(tiles.q[i], q, sequence.first_query + work.first_query + i * rows_a_consumer, work.head, tiles.q_full);
  }
  for (int n = 0, key = work.begin; key < work.end; n++, key += tile_keys) {
    const Turn turn(n);
    const int stage = turn.stage, row = sequence.first_key + key, exist = sequence.keys - key;
    const bool whole = exist >= tile_keys;
    if (lane_of_warp() == 0) {
      wait_for(tiles.k_empty[stage], turn.parity_before());
      bring(tiles.k[stage], k, row, work.kv_head, tiles.k_full[stage]);
      wait_for(tiles.v_empty[stage], turn.parity_before());
      bring(tiles.v[stage], v, row, work.kv_head, whole ? tiles.v_full[stage] : tiles.last_v_landed);
    }
    if (whole) continue;
    wait_for(tiles.last_v_landed, 0);
    clear_rows(tiles.v[stage], exist);
    fence_async_proxy();
    __syncwarp();
    if (lane_of_warp() == 0) arrive(tiles.v_full[stage]);
  }
}

// ---- the warpgroups that compute

// sums and running for the sixteen queries of this warp.
template <int head_dim>
__device__ __forceinline__ void attend(HopperTiles<head_dim>& tiles, const Work& work, float scale, int64_t window,
                                       Sums<head_dim>& sums, RunningSoftmax& running) {
  const auto& q = tiles.q[static_cast<int>(threadIdx.x) / warpgroup_size];
  const int own = work.first_query + warp_of_block() * 16;
  Sums<tile_keys> scores;
  LeftFactors<tile_keys> p;  // probabilities
  set_zero(scores);
  wait_for(tiles.q_full, 0);
  wait_for(tiles.k_full[0], 0);
  fence_products(scores);
  begin_scores(scores, q, tiles.k[0]);
  wait_for_products<0>(scores);
  give_back(tiles.k_empty[0]);
  hide(scores, work.sequence, own, work.begin, window);
  softmax(scores, scale, running);
  round_pairs(p, scores);

  int n = 0;
  for (int key = work.begin + tile_keys; key < work.end; n++, key += tile_keys) {
    const Turn now(n), next(n + 1);
    wait_for(tiles.k_full[next.stage], next.parity);
    fence_products(scores);
    begin_scores(scores, q, tiles.k[next.stage]);
    wait_for(tiles.v_full[now.stage], now.parity);
    fence_products(sums, p);
    begin_sums(sums, p, tiles.v[now.stage]);

    wait_for_products<1>(scores);
    give_back(tiles.k_empty[next.stage]);
    hide(scores, work.sequence, own, key, window);
    const RowFactors factors = softmax(scores, scale, running);
    wait_for_products<0>(sums);
    give_back(tiles.v_empty[now.stage]);
    scale_rows(sums, factors);
    round_pairs(p, scores);
  }
  const Turn last(n);
  wait_for(tiles.v_full[last.stage], last.parity);
  fence_products(sums, p);
  begin_sums(sums, p, tiles.v[last.stage]);
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
    const int head = static_cast<int>(blockIdx.y);
    Work work{sequence_at(shape.ranges, blockIdx.z), head, static_cast<int>(head * shape.kv_heads / shape.heads),
              // The last queries see the most keys: longest first.
              static_cast<int>(gridDim.x - 1 - blockIdx.x) * held_rows, 0, 0};
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
    finish(running, scale, sums, lse == nullptr ? nullptr : lse + head * shape.tokens + token, queries - own);
    store_directly(sums, out + (token * shape.heads + head) * head_dim, shape.heads * head_dim, queries - own);
  }
}

template <int head_dim>
void start(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
           const AttentionOptions& options, bf16* out, float* lse) {
  const dim3 blocks{grid_axis(parts_of(shape.longest_query, held_rows), "attention"),
                    grid_axis(shape.heads, "attention"), grid_axis(shape.sequences, "attention")};
  const TensorMap q = map_of_heads(inputs.q, shape.heads, shape.tokens, head_dim, rows_a_consumer);
  const TensorMap k = map_of_heads(inputs.k, shape.kv_heads, shape.cache, head_dim, tile_keys);
  const TensorMap v = map_of_heads(inputs.v, shape.kv_heads, shape.cache, head_dim, tile_keys);
  launch(stream, "attention_forward_hopper", blocks, hopper_threads, sizeof(HopperTiles<head_dim>),
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
