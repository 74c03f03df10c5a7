// Attention, backward, on Hopper (sm_90a; FlashAttention-3: Shah et al. 2024). What attention_backward.cu computes, and in
// the same two passes, for heads of 64 and 128:
//
//   P = exp(scale q·k − lse)     dv = Pᵀ dout     dS = P ∘ (dout·v − δ), δ = dout·out
//   dq = scale dS k              dk = scale dSᵀ q
//
// q, dq: [A, T, D]; k, v, dk, dv: [G, T, D]; dout, out: [T, A·D] bf16; lse, δ: [A, T] f32. A block holds 128 rows of a pair
// of matrices, and pairs of tiles of the other side come past them in a ring:
//   queries: holds q, dout of a head; k, v come, 128 keys at a time, that they see;               dq += dS · k
//   keys:    holds k, v; q, dout come, 64 queries at a time, of those that see them, head by head of the group;
//            dv += Pᵀ · dout, dk += dSᵀ · q, from the transposed products k·qᵀ and v·doutᵀ
// So every sum has one owner and one order, and the result is the same in every run.
// One warp brings the tiles and keeps few registers; two warpgroups have 64 of the rows each. P and dS stay in registers:
// rounded to bf16 they are the left factors of the next products. Exponentials run while dout·v is under way, dS of keys
// while dv's product is, and the other warpgroup is at another place.
// A tile of rows may reach over its sequence's end. What is read there is another's: of the rows that are held nothing is
// stored, those that come past are set to zero before they are used (0 times NaN is NaN), and P and dS are 0 there.
// Bound by the tensor cores: 14·D FLOP a pair of a query and a key.
#include "kernels/attention_backward_hopper.h"
#include "kernels/attention_delta.h"

namespace llama_tp::kernels {

namespace {

// ---- dq of 128 queries of a head

struct QueriesWork {
  Sequence sequence;
  int head, kv_head, first_query;
  Range keys;  // that any of these queries sees
};

template <int head_dim>
__device__ __forceinline__ void bring_keys(HopperBackwardTiles<head_dim, tile_keys>& tiles, const BackwardMaps& maps,
                                           const QueriesWork& work) {
  const Sequence& sequence = work.sequence;
  bring_held(tiles, queries_at(maps, work.head, sequence.first_query + work.first_query, head_dim));
  uint32_t landings = 0;
  KeyTiles at(work.keys);
  for (int n = 0; at.is_left(); n++, at.advance()) {
    const Turn turn(n);
    if (lane_of_warp() == 0) wait_for(tiles.empty[turn.stage], turn.parity_before());
    bring_pair(tiles, turn.stage, keys_at(maps, work.kv_head, sequence.first_key + at.key), sequence.keys - at.key,
               landings);
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

// own: the warp's first query.
template <int head_dim>
__device__ __forceinline__ void add_keys(const HopperBackwardTiles<head_dim, tile_keys>& tiles, int stage,
                                         const BackwardCall& call, const Sequence& sequence, int own, int key,
                                         QuerySums<head_dim>& sums) {
  const int consumer = static_cast<int>(threadIdx.x) / warpgroup_size;
  fence_products(sums.s, sums.ds);
  begin_scores(sums.s, tiles.first[consumer], tiles.other_first[stage]);
  begin_scores(sums.ds, tiles.second[consumer], tiles.other_second[stage]);
  wait_for_products<1>(sums.s);
  exponentials(sums.s, call.options.scale * log2_of_e, [&](int, int i) { return sums.lse[i / 2]; });
  wait_for_products<0>(sums.ds);
  gradients_of_scores(sums.ds, sums.s, [&](int, int i) { return sums.delta[i / 2]; });
  replace_hidden(sums.ds, 0, own, key, [&](int query) { return sequence.visible(query, call.options.window); });
  round_pairs(sums.factors, sums.ds);
  fence_products(sums.dq, sums.factors);
  begin_sums(sums.dq, sums.factors, tiles.other_first[stage]);
  wait_for_products<0>(sums.dq);
}

template <int head_dim>
__device__ __forceinline__ void walk_over_keys(HopperBackwardTiles<head_dim, tile_keys>& tiles,
                                               const BackwardCall& call, const QueriesWork& work,
                                               QuerySums<head_dim>& sums) {
  const int own = work.first_query + warp_of_block() * 16;
  set_zero(sums.s);
  set_zero(sums.ds);
  walk(tiles, KeyTiles(work.keys),
       [&](int stage, const KeyTiles& at) { add_keys(tiles, stage, call, work.sequence, own, at.key, sums); });
}

// grid: tiles of queries, heads, sequences
template <int head_dim>
__global__ void __launch_bounds__(hopper_threads, 1)
    backward_hopper_queries_kernel(const __grid_constant__ BackwardMaps maps, BackwardCall call) {
  if constexpr (has_hopper_instructions) {
    auto& tiles = shared_memory<HopperBackwardTiles<head_dim, tile_keys>>();
    const AttentionShape& shape = call.shape;
    const int head = static_cast<int>(blockIdx.y);
    QueriesWork work{sequence_at(shape.ranges, blockIdx.z),
                     head,
                     static_cast<int>(head * shape.kv_heads / shape.heads),
                     // The last queries see the most keys: longest first.
                     static_cast<int>(gridDim.x - 1 - blockIdx.x) * held_rows,
                     {}};
    const Sequence& sequence = work.sequence;
    if (work.first_query >= sequence.queries) return;
    const int queries = static_cast<int>(smaller(held_rows, sequence.queries - work.first_query));
    work.keys = {sequence.visible(work.first_query, call.options.window).begin,
                 sequence.visible(work.first_query + queries - 1, call.options.window).end};
    const bool any = work.keys.begin < work.keys.end;

    if (threadIdx.x == 0) initialize_barriers(tiles);
    __syncthreads();
    if (warp_of_block() >= consumer_warps) {
      give_registers<producer_registers>();
      if (warp_of_block() == consumer_warps && any) bring_keys(tiles, maps, work);
      return;
    }
    take_registers<consumer_registers>();
    const int own = warp_of_block() * 16;
    const int64_t first = head * shape.tokens + sequence.first_query + work.first_query;
    QuerySums<head_dim> sums;
    set_zero(sums.dq);
    for (int half = 0; half < 2; half++) {
      const int64_t at = first + smaller(own + lane_of_warp() / 4 + 8 * half, queries - 1);
      sums.lse[half] = call.lse[at] * log2_of_e;
      sums.delta[half] = call.delta[at];
    }
    if (any) walk_over_keys(tiles, call, work, sums);
    scale_by(sums.dq, call.options.scale);
    store_directly(sums.dq, call.gradients.dq + (first + own) * head_dim, head_dim, queries - own);
  }
}

// ---- dk and dv of 128 keys of a key/value head

struct KeysWork {
  Sequence sequence;
  int kv_head, first_key;
  Range queries;  // that see any of these keys
  int heads;      // of the group
};

template <int head_dim>
__device__ __forceinline__ void bring_queries(HopperBackwardTiles<head_dim, tile_queries>& tiles,
                                              const BackwardMaps& maps, const BackwardCall& call,
                                              const KeysWork& work) {
  const Sequence& sequence = work.sequence;
  bring_held(tiles, keys_at(maps, work.kv_head, sequence.first_key + work.first_key));
  uint32_t landings = 0;
  QueryTiles at(work.queries, work.heads);
  for (int n = 0; at.is_left(); n++, at.advance()) {
    const Turn turn(n);
    const int head = work.kv_head * work.heads + at.head, token = sequence.first_query + at.query;
    const int exist = sequence.queries - at.query;
    const Statistics statistics(call, head * call.shape.tokens + token, exist);
    wait_for(tiles.empty[turn.stage], turn.parity_before());  // the lanes meet in store()
    statistics.store(tiles.lse[turn.stage], tiles.delta[turn.stage]);
    bring_pair(tiles, turn.stage, queries_at(maps, head, token, head_dim), exist, landings);
  }
}

// What a thread has on its way to dk and dv. Sums of keys, columns of queries.
template <int head_dim>
struct KeySums {
  Sums<head_dim> dk, dv;
  Sums<tile_queries> s, ds;
  LeftFactors<tile_queries> p_factors, ds_factors;
};

// own: the warp's first key.
template <int head_dim>
__device__ __forceinline__ void add_queries(const HopperBackwardTiles<head_dim, tile_queries>& tiles, int stage,
                                            const BackwardCall& call, const Sequence& sequence, int own, int query,
                                            KeySums<head_dim>& sums) {
  const int consumer = static_cast<int>(threadIdx.x) / warpgroup_size;
  const auto column = [](int j, int i) { return 8 * j + lane_of_warp() % 4 * 2 + i % 2; };
  fence_products(sums.s, sums.ds);
  begin_scores(sums.s, tiles.first[consumer], tiles.other_first[stage]);
  begin_scores(sums.ds, tiles.second[consumer], tiles.other_second[stage]);
  wait_for_products<1>(sums.s);
  exponentials(sums.s, call.options.scale * log2_of_e, [&](int j, int i) { return tiles.lse[stage][column(j, i)]; });
  replace_hidden(sums.s, 0, own, query, [&](int key) { return sequence.viewers(key, key + 1, call.options.window); });
  round_pairs(sums.p_factors, sums.s);
  fence_products(sums.dv, sums.p_factors);
  begin_sums(sums.dv, sums.p_factors, tiles.other_second[stage]);
  wait_for_products<1>(sums.ds);
  gradients_of_scores(sums.ds, sums.s, [&](int j, int i) { return tiles.delta[stage][column(j, i)]; });
  round_pairs(sums.ds_factors, sums.ds);
  fence_products(sums.dk, sums.ds_factors);
  begin_sums(sums.dk, sums.ds_factors, tiles.other_first[stage]);
  wait_for_products<0>(sums.dv);
  wait_for_products<0>(sums.dk);
}

template <int head_dim>
__device__ __forceinline__ void walk_over_queries(HopperBackwardTiles<head_dim, tile_queries>& tiles,
                                                  const BackwardCall& call, const KeysWork& work,
                                                  KeySums<head_dim>& sums) {
  const int own = work.first_key + warp_of_block() * 16;
  set_zero(sums.s);
  set_zero(sums.ds);
  walk(tiles, QueryTiles(work.queries, work.heads),
       [&](int stage, const QueryTiles& at) { add_queries(tiles, stage, call, work.sequence, own, at.query, sums); });
}

// grid: tiles of keys, key/value heads, sequences
template <int head_dim>
__global__ void __launch_bounds__(hopper_threads, 1)
    backward_hopper_keys_kernel(const __grid_constant__ BackwardMaps maps, BackwardCall call) {
  if constexpr (has_hopper_instructions) {
    auto& tiles = shared_memory<HopperBackwardTiles<head_dim, tile_queries>>();
    const AttentionShape& shape = call.shape;
    KeysWork work{sequence_at(shape.ranges, blockIdx.z),
                  static_cast<int>(blockIdx.y),
                  static_cast<int>(blockIdx.x) * held_rows,  // the first keys are seen by the most queries
                  {},
                  static_cast<int>(shape.heads / shape.kv_heads)};
    const Sequence& sequence = work.sequence;
    if (work.first_key >= sequence.keys) return;
    const int keys = static_cast<int>(smaller(held_rows, sequence.keys - work.first_key));
    work.queries = sequence.viewers(work.first_key, work.first_key + keys, call.options.window);
    const bool any = work.queries.begin < work.queries.end;

    if (threadIdx.x == 0) initialize_barriers(tiles);
    __syncthreads();
    if (warp_of_block() >= consumer_warps) {
      give_registers<producer_registers>();
      if (warp_of_block() == consumer_warps && any) bring_queries(tiles, maps, call, work);
      return;
    }
    take_registers<consumer_registers>();
    const int own = warp_of_block() * 16;
    KeySums<head_dim> sums;
    set_zero(sums.dk);
    set_zero(sums.dv);
    if (any) walk_over_queries(tiles, call, work, sums);
    scale_by(sums.dk, call.options.scale);
    const int64_t to = (work.kv_head * shape.cache + sequence.first_key + work.first_key + own) * head_dim;
    store_directly(sums.dk, call.gradients.dk + to, head_dim, keys - own);
    store_directly(sums.dv, call.gradients.dv + to, head_dim, keys - own);
  }
}

}  // namespace

void attention_backward_hopper(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionSaved<bf16>& saved,
                               const AttentionShape& shape, const AttentionOptions& options,
                               const AttentionGradients<bf16>& gradients, void* workspace) {
  auto* const delta = static_cast<float*>(workspace);
  attention_delta(stream, saved, delta, shape);
  const BackwardCall call{shape, options, saved.lse, delta, gradients};
  const unsigned sequences = grid_axis(shape.sequences, "attention");
  const auto tiles_of = [](int64_t rows) { return grid_axis(parts_of(rows, held_rows), "attention"); };
  with_hopper_head_dim(shape.head_dim, [&]<int head_dim>() {
    launch(stream, "attention_backward_hopper",
           {tiles_of(shape.longest_query), grid_axis(shape.heads, "attention"), sequences}, hopper_threads,
           sizeof(HopperBackwardTiles<head_dim, tile_keys>), backward_hopper_queries_kernel<head_dim>,
           maps_of(inputs, saved.dout, shape, tile_keys), call);
    launch(stream, "attention_backward_hopper",
           {tiles_of(shape.longest_key), grid_axis(shape.kv_heads, "attention"), sequences}, hopper_threads,
           sizeof(HopperBackwardTiles<head_dim, tile_queries>), backward_hopper_keys_kernel<head_dim>,
           maps_of(inputs, saved.dout, shape, rows_a_consumer), call);
  });
}

}  // namespace llama_tp::kernels
