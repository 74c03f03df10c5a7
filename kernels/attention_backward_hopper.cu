// Attention, backward, on Hopper (sm_90a; FlashAttention-3: Shah et al. 2024). What attention_backward.cu computes, and in
// the same two passes, for heads of 64 and 128:
//
//   P = exp(scale q·k − lse)     dv = Pᵀ dout     dS = P ∘ (dout·v − δ), δ = dout·out
//   dq = scale dS k              dk = scale dSᵀ q
//
// q, dq: [A, T, D]; k, v, dk, dv: [G, T, D]; dout, out: [T, A·D] bf16; lse, δ: [A, T] f32. A block holds 128 rows of a pair
// of matrices, and pairs of tiles of the other side come past them in rings:
//   queries: holds q, dout of a head; k, v come, 128 keys at a time, that they see;               dq += dS · k
//   keys:    holds k, v; q, dout come, 64 queries at a time, of those that see them, head by head of the group;
//            dv += Pᵀ · dout, dk += dSᵀ · q, from the transposed products k·qᵀ and v·doutᵀ
// So every sum has one owner and one order, and the result is the same in every run.
// One warp brings the tiles and keeps few registers; two warpgroups have 64 of the rows each. P and dS stay in registers:
// rounded to bf16 they are the left factors of products. A turn of the loop begins with P and dS of one tile at hand and
// ends with those of the next, marked ' here; its products are done in this order:
//   queries: dq += dS · k, half of the keys | s = q · k'ᵀ | ds = dout · v'ᵀ | dq += dS · k, the other half
//   keys:    dv += Pᵀ · dout                | s = k · q'ᵀ | ds = v · dout'ᵀ | dk += dSᵀ · q
// Exponentials of s run beside the third and the fourth, P ∘ (ds − δ) beside the fourth: each warpgroup hides what it does
// behind its own products, and the two need not take turns. The third begins when the first is done, whose factors leave
// their registers to it. At the turn itself nothing is under way: ptxas does not follow sums in use around a loop.
// A tile of rows may reach over its sequence's end. What is read there is another's: of the rows that are held nothing is
// stored, those that come past are set to zero before they are used (0 times NaN is NaN), and P and dS are 0 there.
// Bound by the tensor cores: 14·D FLOP a pair of a query and a key.
#include "kernels/attention_backward_hopper.h"
#include "kernels/attention_delta.h"

namespace llama_tp::kernels {

namespace {

// ---- dq of 128 queries of a head

struct QueriesWork {
  HeldQueries held;
  int queries;  // that exist
  Range keys;   // that any of them sees

  __device__ __forceinline__ explicit QueriesWork(const BackwardCall& call) : held(call.shape) {
    const Sequence& sequence = held.sequence;
    queries = static_cast<int>(smaller(held_rows, sequence.queries - held.first));
    keys = {sequence.visible(held.first, call.options.window).begin,
            sequence.visible(held.first + queries - 1, call.options.window).end};
  }
  __device__ __forceinline__ bool has_queries() const { return queries > 0; }
  __device__ __forceinline__ bool has_keys() const { return keys.begin < keys.end; }
};

// Of keys dq's product uses one tile while the next one's scores are computed and the one behind comes.
constexpr int key_stages = 3, value_stages = 2;
template <int head_dim>
struct QueriesTiles : HopperBackwardTiles<head_dim, tile_keys, key_stages, value_stages> {
  RingBarriers<key_stages> k_ring;
  RingBarriers<value_stages> v_ring;
};

struct KeyTurns {
  Turn<key_stages> k;
  Turn<value_stages> v;

  __device__ __forceinline__ void advance() { k.advance(), v.advance(); }
};

template <int head_dim>
__device__ __forceinline__ void bring_keys(QueriesTiles<head_dim>& tiles, const BackwardMaps& maps,
                                           const QueriesWork& work) {
  if (!work.has_keys()) return;
  const Sequence& sequence = work.held.sequence;
  bring_held(tiles, queries_at(maps, work.held.head, sequence.first_query + work.held.first, head_dim));
  Landing landing{tiles.landed};
  KeyTurns turns;
  for (KeyTiles at(work.keys); at.is_left(); at.advance(), turns.advance()) {
    const auto [k, v] = turns;
    const RowPair rows = keys_at(maps, work.held.kv_head, sequence.first_key + at.key);
    const int exist = sequence.keys - at.key;
    if (lane_of_warp() == 0) wait_until_empty(tiles.k_ring, k);
    bring_cleared(tiles.other_first[k.stage], rows.first, exist, tiles.k_ring.full[k.stage], landing);
    if (lane_of_warp() == 0) wait_until_empty(tiles.v_ring, v);
    bring_cleared(tiles.other_second[v.stage], rows.second, exist, tiles.v_ring.full[v.stage], landing);
  }
}

// What a thread has on its way to dq.
template <int head_dim>
struct QuerySums {
  Sums<head_dim> dq;
  Sums<tile_keys> s, ds;
  LeftFactors<tile_keys> factors;  // dS
  float lse[2], delta[2];          // of the two rows that this thread has elements of; lse in powers of two
};

// dS of a tile of keys whose two products began before `later` groups. own: the warp's first query.
template <int later, int head_dim>
__device__ __forceinline__ void find_gradients(QueriesTiles<head_dim>& tiles, const BackwardCall& call,
                                               const Sequence& sequence, int own, int first_key, int v_stage,
                                               QuerySums<head_dim>& sums) {
  wait_for_products<later + 1>(sums.s);
  exponentials(sums.s, call.scale_of_powers, [&](int, int i) { return sums.lse[i / 2]; });
  // Its branch, too, keeps what is in front of it there.
  replace_hidden(sums.s, 0, own, first_key, [&](int query) { return sequence.visible(query, call.options.window); });
  wait_for_products<later>(sums.ds);
  give_back(tiles.v_ring, v_stage);
  gradients_of_scores(sums.ds, sums.s, [&](int, int i) { return sums.delta[i / 2]; });
}

template <int head_dim>
__device__ __forceinline__ void walk_over_keys(QueriesTiles<head_dim>& tiles, const BackwardCall& call,
                                               const QueriesWork& work, QuerySums<head_dim>& sums) {
  constexpr int half = tile_keys / 2;
  const auto &q = tiles.first[warpgroup_of_block()], &dout = tiles.second[warpgroup_of_block()];
  const auto& k = tiles.other_first;
  const auto& v = tiles.other_second;
  const int own = work.held.first + warp_of_block() * 16;
  KeyTiles at(work.keys);
  KeyTurns turns;
  // To the next tile, when its keys are there.
  const auto go_on = [&] {
    at.advance(), turns.advance();
    if (at.is_left()) wait_until_full(tiles.k_ring, turns.k);
    return at.is_left();
  };

  set_zero(sums.s);
  set_zero(sums.ds);
  wait_for(tiles.held_full, 0);
  wait_until_full(tiles.k_ring, turns.k);
  wait_until_full(tiles.v_ring, turns.v);
  fence_products(sums.s, sums.ds);
  begin_scores(sums.s, q, k[turns.k.stage]);
  begin_scores(sums.ds, dout, v[turns.v.stage]);
  find_gradients<0>(tiles, call, work.held.sequence, own, at.key, turns.v.stage, sums);
  round_pairs(sums.factors, sums.ds);

  int now = turns.k.stage;  // of the keys that dS is of
  for (bool more = go_on(); more;) {
    const int next = turns.k.stage;
    fence_products(sums.dq, sums.factors, sums.s);
    begin_sums<0, half>(sums.dq, sums.factors, k[now]);
    begin_scores(sums.s, q, k[next]);
    wait_until_full(tiles.v_ring, turns.v);
    wait_for_products<1>(sums.dq);
    fence_products(sums.dq, sums.factors, sums.ds);
    begin_scores(sums.ds, dout, v[turns.v.stage]);
    begin_sums<half, tile_keys>(sums.dq, sums.factors, k[now]);

    find_gradients<1>(tiles, call, work.held.sequence, own, at.key, turns.v.stage, sums);
    more = go_on();  // its branch keeps dS in front of the wait: ptxas moves waits up to the last branch
    wait_for_products<0>(sums.dq);
    give_back(tiles.k_ring, now);
    round_pairs(sums.factors, sums.ds);
    now = next;
  }
  fence_products(sums.dq, sums.factors);
  begin_sums(sums.dq, sums.factors, k[now]);
  wait_for_products<0>(sums.dq);
}

template <int head_dim>
__device__ __forceinline__ void find_dq(QueriesTiles<head_dim>& tiles, const BackwardCall& call,
                                        const QueriesWork& work) {
  const int own = warp_of_block() * 16;
  const int64_t first = work.held.head * call.shape.tokens + work.held.sequence.first_query + work.held.first;
  QuerySums<head_dim> sums;
  set_zero(sums.dq);
  for (int half = 0; half < 2; half++) {
    const int64_t at = first + smaller(own + lane_of_warp() / 4 + 8 * half, work.queries - 1);
    sums.lse[half] = call.lse[at] * log2_of_e;
    sums.delta[half] = call.delta[at];
  }
  if (work.has_keys()) walk_over_keys(tiles, call, work, sums);
  scale_by(sums.dq, call.options.scale);
  store_directly(sums.dq, call.gradients.dq + (first + own) * head_dim, head_dim, work.queries - own);
}

// grid: heads, places of tiles of queries
template <int head_dim>
__global__ void __launch_bounds__(hopper_threads, 1)
    backward_hopper_queries_kernel(const __grid_constant__ BackwardMaps maps, BackwardCall call) {
  if constexpr (has_hopper_instructions) {
    auto& tiles = shared_memory<QueriesTiles<head_dim>>();
    if (!QueriesWork(call).has_queries()) return;
    if (threadIdx.x == 0) initialize_barriers(tiles.held_full, tiles.landed, 1, tiles.k_ring, tiles.v_ring);
    __syncthreads();
    // Each finds out for itself what its work is: what both know would have to lie in the few registers of one.
    if (warp_of_block() >= consumer_warps) {
      give_registers<producer_registers>();
      if (warp_of_block() == consumer_warps) bring_keys(tiles, maps, QueriesWork(call));
    } else {
      take_registers<consumer_registers>();
      find_dq(tiles, call, QueriesWork(call));
    }
  }
}

// ---- dk and dv of 128 keys of a key/value head

struct KeysWork {
  Sequence sequence;
  int kv_head, first_key;
  int keys;       // that exist
  Range queries;  // that see any of them
  int heads;      // of the group

  __device__ __forceinline__ explicit KeysWork(const BackwardCall& call)
      : kv_head(static_cast<int>(blockIdx.x)), heads(static_cast<int>(call.shape.heads / call.shape.kv_heads)) {
    const auto tile = held_tile<Side::keys>(call.shape, held_rows);
    sequence = tile.sequence;
    first_key = tile.first;
    keys = static_cast<int>(smaller(held_rows, sequence.keys - first_key));
    queries = sequence.viewers(first_key, first_key + keys, call.options.window);
  }
  __device__ __forceinline__ bool has_keys() const { return keys > 0; }
  __device__ __forceinline__ bool has_queries() const { return queries.begin < queries.end; }
};

constexpr int query_stages = 4;
using QueryTurn = Turn<query_stages>;
template <int head_dim>
struct KeysTiles : HopperBackwardTiles<head_dim, tile_queries, query_stages, query_stages> {
  float lse[query_stages][tile_queries], delta[query_stages][tile_queries];  // lse in powers of two
  RingBarriers<query_stages> ring;
};

template <int head_dim>
__device__ __forceinline__ void bring_queries(KeysTiles<head_dim>& tiles, const BackwardMaps& maps,
                                              const BackwardCall& call, const KeysWork& work) {
  if (!work.has_queries()) return;
  const Sequence& sequence = work.sequence;
  bring_held(tiles, keys_at(maps, work.kv_head, sequence.first_key + work.first_key));
  Landing landing{tiles.landed};
  QueryTurn turn;
  for (QueryTiles at(work.queries, work.heads); at.is_left(); at.advance(), turn.advance()) {
    const int head = work.kv_head * work.heads + at.head, token = sequence.first_query + at.query;
    const int exist = sequence.queries - at.query, stage = turn.stage;
    const Statistics statistics(call, head * call.shape.tokens + token, exist);
    const RowPair rows = queries_at(maps, head, token, head_dim);
    wait_until_empty(tiles.ring, turn);  // the lanes meet in store()
    statistics.store(tiles.lse[stage], tiles.delta[stage]);
    bring_cleared(tiles.other_first[stage], rows.first, exist, tiles.ring.full[stage], landing);
    bring_cleared(tiles.other_second[stage], rows.second, exist, tiles.ring.full[stage], landing);
  }
}

// What a thread has on its way to dk and dv. Sums of keys, columns of queries.
template <int head_dim>
struct KeySums {
  Sums<head_dim> dk, dv;
  Sums<tile_queries> s, ds;
  LeftFactors<tile_queries> p_factors, ds_factors;
};

// P and dS of a tile of queries whose two products began before `later` groups. own: the warp's first key.
template <int later, int head_dim>
__device__ __forceinline__ void find_gradients(const KeysTiles<head_dim>& tiles, const BackwardCall& call,
                                               const Sequence& sequence, int own, int first_query, int stage,
                                               KeySums<head_dim>& sums) {
  const auto column = [](int j, int i) { return 8 * j + lane_of_warp() % 4 * 2 + i % 2; };
  wait_for_products<later + 1>(sums.s);
  exponentials(sums.s, call.scale_of_powers, [&](int j, int i) { return tiles.lse[stage][column(j, i)]; });
  replace_hidden(sums.s, 0, own, first_query,
                 [&](int key) { return sequence.viewers(key, key + 1, call.options.window); });
  wait_for_products<later>(sums.ds);
  gradients_of_scores(sums.ds, sums.s, [&](int j, int i) { return tiles.delta[stage][column(j, i)]; });
}

template <int head_dim>
__device__ __forceinline__ void walk_over_queries(KeysTiles<head_dim>& tiles, const BackwardCall& call,
                                                  const KeysWork& work, KeySums<head_dim>& sums) {
  const auto &k = tiles.first[warpgroup_of_block()], &v = tiles.second[warpgroup_of_block()];
  const auto &q = tiles.other_first, &dout = tiles.other_second;
  const int own = work.first_key + warp_of_block() * 16;
  QueryTiles at(work.queries, work.heads);
  QueryTurn turn;
  // To the next tile, when it is there.
  const auto go_on = [&] {
    at.advance(), turn.advance();
    if (at.is_left()) wait_until_full(tiles.ring, turn);
    return at.is_left();
  };

  set_zero(sums.s);
  set_zero(sums.ds);
  wait_for(tiles.held_full, 0);
  wait_until_full(tiles.ring, turn);
  fence_products(sums.s, sums.ds);
  begin_scores(sums.s, k, q[turn.stage]);
  begin_scores(sums.ds, v, dout[turn.stage]);
  find_gradients<0>(tiles, call, work.sequence, own, at.query, turn.stage, sums);
  round_pairs(sums.ds_factors, sums.ds);

  int now = turn.stage;  // of the queries that P and dS are of
  for (bool more = go_on(); more;) {
    const int next = turn.stage;
    round_pairs(sums.p_factors, sums.s);  // behind go_on's branch, so that they find the registers that ds has left
    fence_products(sums.dv, sums.p_factors, sums.s);
    begin_sums(sums.dv, sums.p_factors, dout[now]);
    begin_scores(sums.s, k, q[next]);
    wait_for_products<1>(sums.dv);
    fence_products(sums.ds, sums.dk, sums.ds_factors);
    begin_scores(sums.ds, v, dout[next]);
    begin_sums(sums.dk, sums.ds_factors, q[now]);

    find_gradients<1>(tiles, call, work.sequence, own, at.query, next, sums);
    more = go_on();  // as in walk_over_keys
    wait_for_products<0>(sums.dk);
    give_back(tiles.ring, now);
    round_pairs(sums.ds_factors, sums.ds);
    now = next;
  }
  round_pairs(sums.p_factors, sums.s);
  fence_products(sums.dv, sums.p_factors, sums.dk, sums.ds_factors);
  begin_sums(sums.dv, sums.p_factors, dout[now]);
  begin_sums(sums.dk, sums.ds_factors, q[now]);
  wait_for_products<0>(sums.dv);
  wait_for_products<0>(sums.dk);
}

template <int head_dim>
__device__ __forceinline__ void find_dk_and_dv(KeysTiles<head_dim>& tiles, const BackwardCall& call,
                                               const KeysWork& work) {
  const int own = warp_of_block() * 16;
  KeySums<head_dim> sums;
  set_zero(sums.dk);
  set_zero(sums.dv);
  if (work.has_queries()) walk_over_queries(tiles, call, work, sums);
  scale_by(sums.dk, call.options.scale);
  const int64_t to = (work.kv_head * call.shape.cache + work.sequence.first_key + work.first_key + own) * head_dim;
  store_directly(sums.dk, call.gradients.dk + to, head_dim, work.keys - own);
  store_directly(sums.dv, call.gradients.dv + to, head_dim, work.keys - own);
}

// grid: key/value heads, places of tiles of keys
template <int head_dim>
__global__ void __launch_bounds__(hopper_threads, 1)
    backward_hopper_keys_kernel(const __grid_constant__ BackwardMaps maps, BackwardCall call) {
  if constexpr (has_hopper_instructions) {
    auto& tiles = shared_memory<KeysTiles<head_dim>>();
    if (!KeysWork(call).has_keys()) return;
    if (threadIdx.x == 0) initialize_barriers(tiles.held_full, tiles.landed, 2, tiles.ring);
    __syncthreads();
    if (warp_of_block() >= consumer_warps) {
      give_registers<producer_registers>();
      if (warp_of_block() == consumer_warps) bring_queries(tiles, maps, call, KeysWork(call));
    } else {
      take_registers<consumer_registers>();
      find_dk_and_dv(tiles, call, KeysWork(call));
    }
  }
}

}  // namespace

void attention_backward_hopper(Stream stream, const AttentionInputs<bf16>& inputs,
                               const AttentionOutputs<bf16>& outputs, const AttentionShape& shape,
                               const AttentionOptions& options, const AttentionGradients<bf16>& gradients,
                               void* workspace) {
  auto* const delta = static_cast<float*>(workspace);
  attention_delta(stream, outputs, delta, shape);
  const BackwardCall call{shape, options, options.scale * log2_of_e, outputs.lse, delta, gradients};
  with_hopper_head_dim(shape.head_dim, [&]<int head_dim>() {
    launch(stream, "attention_backward_hopper", grid_of_tiles<Side::queries>(shape, held_rows), hopper_threads,
           sizeof(QueriesTiles<head_dim>), backward_hopper_queries_kernel<head_dim>,
           maps_of(inputs, outputs.dout, shape, tile_keys), call);
    launch(stream, "attention_backward_hopper", grid_of_tiles<Side::keys>(shape, held_rows), hopper_threads,
           sizeof(KeysTiles<head_dim>), backward_hopper_keys_kernel<head_dim>,
           maps_of(inputs, outputs.dout, shape, rows_a_consumer), call);
  });
}

}  // namespace llama_tp::kernels
