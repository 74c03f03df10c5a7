// Attention, forward, on Hopper (sm_90a; FlashAttention-3: Shah et al. 2024). What attention_forward.cu computes, for
// heads of 64 and 128:
//
//   out[t, a·D …] = Σ_j p_j v[g, j],  p_j = exp(scale q[a, t]·k[g, j] − lse),  lse[a, t] = log Σ_j exp(scale q·k)
//
// q: [A, T, D]; k, v: [G, C, D]; out: [T, A·D] bf16; lse: [A, T] f32 or null; head a reads key/value head g = a·G/A.
// A block takes 128 queries of one head and walks over the keys that they see, 128 at a time. One warp brings tiles of
// keys and values to a ring of three each and keeps few registers; two warpgroups have 64 queries each. A turn of their
// loop begins with the probabilities p of one tile and the scores s' of the next at hand. Its products are
//   sums += p · v, half of the keys | sums += p · v, the other half | s'' = q · k''ᵀ, of the tile behind
// and beside the second and the third s' become probabilities: each warpgroup hides softmax behind its own products, and
// the two need not take turns. The third begins when the first is done, whose factors leave their registers to it.
// A tile of rows may reach over its sequence's end. What is read there is another's: scores are hidden, values are
// set to zero before they are used (0 times NaN is NaN), and outputs are stored row by row.
// Bound by the tensor cores: 4·D FLOP a pair of a query and a key; keys and values are read once a tile of queries,
// from the L2 cache as a rule.
#include "kernels/attention_hopper.h"
#include "kernels/attention_softmax.h"

namespace llama_tp::kernels {

namespace {

constexpr int tile_keys = 128, stages = 3;

template <int head_dim>
struct HopperTiles {
  SwizzledTile<rows_a_consumer, head_dim> q[consumers];
  SwizzledTile<tile_keys, head_dim> k[stages], v[stages];
  MemoryBarrier q_full, v_landed;
  RingBarriers<stages> k_ring, v_ring;
};

struct ForwardCall {
  AttentionShape shape;
  AttentionOptions options;
  float scale_of_powers;  // of two
  bf16* out;
  float* lse;
};

struct Work {
  HeldQueries held;
  int queries;     // that exist
  int begin, end;  // of the keys that any of them sees, from the first one of a tile

  __device__ __forceinline__ explicit Work(const ForwardCall& call) : held(call.shape) {
    const Sequence& sequence = held.sequence;
    queries = static_cast<int>(smaller(held_rows, sequence.queries - held.first));
    begin = sequence.visible(held.first, call.options.window).begin / tile_keys * tile_keys;
    end = sequence.visible(held.first + queries - 1, call.options.window).end;
  }
  __device__ __forceinline__ bool has_queries() const { return queries > 0; }
  __device__ __forceinline__ int tiles() const { return static_cast<int>(ceil_div(larger(end - begin, 0), tile_keys)); }
};

// ---- the warp that brings the tiles

template <int head_dim>
__device__ __forceinline__ void bring_tiles(HopperTiles<head_dim>& tiles, const TensorMap& q, const TensorMap& k,
                                            const TensorMap& v, const Work& work) {
  const Sequence& sequence = work.held.sequence;
  const int count = work.tiles();
  if (count == 0) return;
  if (lane_of_warp() == 0) {
    arrive_and_expect(tiles.q_full, consumers * tiles.q[0].bytes);
    copy_held(tiles.q, {q, sequence.first_query + work.held.first, work.held.head}, tiles.q_full);
  }
  Landing landing{tiles.v_landed};
  Turn<stages> k_turn, v_turn;
  // As they are used: values come with the keys two tiles ahead.
  for (int n = 0; n < count + 2; n++) {
    if (n < count) {
      const int key = work.begin + n * tile_keys;
      if (lane_of_warp() == 0) wait_until_empty(tiles.k_ring, k_turn);
      bring(tiles.k[k_turn.stage], {k, sequence.first_key + key, work.held.kv_head}, tiles.k_ring.full[k_turn.stage]);
      k_turn.advance();
    }
    if (n >= 2) {
      const int key = work.begin + (n - 2) * tile_keys;
      if (lane_of_warp() == 0) wait_until_empty(tiles.v_ring, v_turn);
      bring_cleared(tiles.v[v_turn.stage], {v, sequence.first_key + key, work.held.kv_head}, sequence.keys - key,
                    tiles.v_ring.full[v_turn.stage], landing);
      v_turn.advance();
    }
  }
}

// ---- the warpgroups that compute

// What a thread has on its way to its two queries' outputs, and how far it is.
template <int head_dim>
struct Attention {
  Sums<head_dim> sums;
  LeftFactors<tile_keys> p;  // probabilities, of the tile whose values come next
  RunningSoftmax running;
  Turn<stages> k, v;  // of the tile whose scores begin next, and of these values
  int key;            // the first one of the tile whose softmax comes next
  int left;           // how many tiles' scores have not begun
};

// Of keys that are there. Returns where they lie.
template <int head_dim>
__device__ __forceinline__ int begin_next_scores(HopperTiles<head_dim>& tiles, Sums<tile_keys>& scores,
                                                 Attention<head_dim>& at) {
  const int stage = at.k.stage;
  fence_products(scores);
  begin_scores(scores, tiles.q[warpgroup_of_block()], tiles.k[stage]);
  at.k.advance(), at.left--;
  return stage;
}

template <int head_dim>
__device__ __forceinline__ RowFactors next_softmax(const ForwardCall& call, const Work& work, Sums<tile_keys>& scores,
                                                   Attention<head_dim>& at) {
  hide(scores, work.held.sequence, work.held.first + warp_of_block() * 16, at.key, call.options.window);
  at.key += tile_keys;
  return softmax(scores, call.scale_of_powers, at.running);
}

// A turn of the loop: a tile's values are added, the scores of the next one become probabilities, and with `more` those
// of the one behind it come.
template <bool more, int head_dim>
__device__ __forceinline__ void step(HopperTiles<head_dim>& tiles, const ForwardCall& call, const Work& work,
                                     Sums<tile_keys>& scores, Sums<tile_keys>& coming, Attention<head_dim>& at) {
  constexpr int half = tile_keys / 2;
  const int v = at.v.stage;
  int k = 0;
  fence_products(at.sums, at.p);
  begin_sums<0, half>(at.sums, at.p, tiles.v[v]);
  begin_sums<half, tile_keys>(at.sums, at.p, tiles.v[v]);
  if constexpr (more) {
    wait_for_products<1>(at.sums);
    k = begin_next_scores(tiles, coming, at);
  }
  const RowFactors factors = next_softmax(call, work, scores, at);
  if (more && at.left > 0) wait_until_full_behind(at.running.total[0] + at.running.total[1], tiles.k_ring, at.k);
  wait_for_products<more ? 1 : 0>(at.sums);
  give_back(tiles.v_ring, v);
  scale_rows(at.sums, factors);
  if constexpr (more) {
    wait_for_products<0>(coming);
    give_back(tiles.k_ring, k);
  }
  at.v.advance();
  wait_until_full(tiles.v_ring, at.v);
  round_pairs(at.p, scores);
}

// From the second tile on, whose scores are these.
template <int head_dim>
__device__ __forceinline__ void walk_over_keys(HopperTiles<head_dim>& tiles, const ForwardCall& call, const Work& work,
                                               Sums<tile_keys>& odd, Sums<tile_keys>& even, Attention<head_dim>& at) {
  for (;;) {
    if (at.left == 0) return step<false>(tiles, call, work, odd, even, at);
    step<true>(tiles, call, work, odd, even, at);
    if (at.left == 0) return step<false>(tiles, call, work, even, odd, at);
    step<true>(tiles, call, work, even, odd, at);
  }
}

template <int head_dim>
__device__ __forceinline__ void attend(HopperTiles<head_dim>& tiles, const ForwardCall& call, const Work& work,
                                       Attention<head_dim>& at) {
  Sums<tile_keys> even, odd;  // scores of two tiles that follow each other
  set_zero(even);
  set_zero(odd);
  at.key = work.begin;
  at.left = work.tiles();
  const auto finish_scores = [&](Sums<tile_keys>& scores, int k) {
    wait_for_products<0>(scores);
    give_back(tiles.k_ring, k);
    if (at.left > 0) wait_until_full(tiles.k_ring, at.k);
  };
  const auto begin_with = [&](Sums<tile_keys>& scores) {
    next_softmax(call, work, scores, at);
    wait_until_full_behind(at.running.total[0] + at.running.total[1], tiles.v_ring, at.v);
    round_pairs(at.p, scores);
  };
  wait_for(tiles.q_full, 0);
  wait_until_full(tiles.k_ring, at.k);
  finish_scores(even, begin_next_scores(tiles, even, at));
  if (at.left == 0) {
    begin_with(even);
  } else {
    const int k = begin_next_scores(tiles, odd, at);
    begin_with(even);
    finish_scores(odd, k);
    walk_over_keys(tiles, call, work, odd, even, at);
  }
  fence_products(at.sums, at.p);
  begin_sums(at.sums, at.p, tiles.v[at.v.stage]);
  wait_for_products<0>(at.sums);
}

template <int head_dim>
__device__ __forceinline__ void find_outputs(HopperTiles<head_dim>& tiles, const ForwardCall& call, const Work& work) {
  const AttentionShape& shape = call.shape;
  Attention<head_dim> at;
  set_zero(at.sums);
  if (work.tiles() > 0) attend(tiles, call, work, at);
  const int own = warp_of_block() * 16, head = work.held.head;
  const int64_t token = work.held.sequence.first_query + work.held.first + own;
  finish(at.running, call.scale_of_powers, at.sums,
         call.lse == nullptr ? nullptr : call.lse + head * shape.tokens + token, work.queries - own);
  store_directly(at.sums, call.out + (token * shape.heads + head) * head_dim, shape.heads * head_dim,
                 work.queries - own);
}

// ---- the kernel

// grid: heads, places of tiles of queries
template <int head_dim>
__global__ void __launch_bounds__(hopper_threads, 1)
    attention_forward_hopper_kernel(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                                    const __grid_constant__ TensorMap v, ForwardCall call) {
  if constexpr (has_hopper_instructions) {
    auto& tiles = shared_memory<HopperTiles<head_dim>>();
    if (!Work(call).has_queries()) return;
    if (threadIdx.x == 0) initialize_barriers(tiles.q_full, tiles.v_landed, 1, tiles.k_ring, tiles.v_ring);
    __syncthreads();
    // Each finds out for itself what its work is: what both know would have to lie in the few registers of one.
    if (warp_of_block() >= consumer_warps) {
      give_registers<producer_registers>();
      if (warp_of_block() == consumer_warps) bring_tiles(tiles, q, k, v, Work(call));
    } else {
      take_registers<consumer_registers>();
      find_outputs(tiles, call, Work(call));
    }
  }
}

template <int head_dim>
void start(Stream stream, const AttentionInputs<bf16>& inputs, const ForwardCall& call) {
  const AttentionShape& shape = call.shape;
  const TensorMap q = map_of_heads(inputs.q, shape.heads, shape.tokens, head_dim, rows_a_consumer);
  const TensorMap k = map_of_heads(inputs.k, shape.kv_heads, shape.cache, head_dim, tile_keys);
  const TensorMap v = map_of_heads(inputs.v, shape.kv_heads, shape.cache, head_dim, tile_keys);
  launch(stream, "attention_forward_hopper", grid_of_tiles<Side::queries>(shape, held_rows), hopper_threads,
         sizeof(HopperTiles<head_dim>), attention_forward_hopper_kernel<head_dim>, q, k, v, call);
}

}  // namespace

bool runs_hopper_tiles() { return is_hopper(); }

void attention_forward_hopper(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                              const AttentionOptions& options, bf16* out, float* lse) {
  require_positive_scale(options);
  const ForwardCall call{shape, options, options.scale * log2_of_e, out, lse};
  with_hopper_head_dim(shape.head_dim, [&]<int head_dim>() { start<head_dim>(stream, inputs, call); });
}

}  // namespace llama_tp::kernels
