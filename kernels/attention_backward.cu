// Attention, backward, on tensor cores (FlashAttention-2: Dao 2023, in two passes so that no sum needs atomics).
//
//   P = exp(scale q·k − lse)     dv = Pᵀ dout     dS = P ∘ (dout·v − δ), δ = dout·out
//   dq = scale dS k              dk = scale dSᵀ q
//
// Shapes as in forward; dq: [A, T, D]; dk, dv: [G, T, D] bf16. Both kernels hold 64 rows and stream pairs of 32 rows of
// the other side past them, the next pair on its way while this one is used:
//   queries: holds q, dout of a head; streams k, v of the keys that they see;                     dq += dS · k
//   keys:    holds k, v; streams q, dout of the queries that see them, head by head of the group; dv += Pᵀ · dout,
//            dk += dSᵀ · q, from the transposed products k·qᵀ and v·doutᵀ
// So every sum has one owner and one order, and the result is the same in every run, at the price of computing P twice.
// Bound by the tensor cores: 14·D FLOP a pair of a query and a key.
#include "kernels/attention_delta.h"
#include "kernels/tiles.h"

namespace llama_tp::kernels {

namespace {

constexpr int held = 64, streamed = 32, warps = 4;

struct Call {
  AttentionInputs<bf16> inputs;
  AttentionOutputs<bf16> outputs;
  AttentionGradients<bf16> gradients;
  AttentionOptions options;
  const float* delta;
};

template <int head_dim>
struct BackwardTiles {
  Tile<held, head_dim> first, second;                        // q, dout; or k, v
  Tile<streamed, head_dim> other_first[2], other_second[2];  // k, v; or q, dout
  float lse[2][streamed], delta[2][streamed];                // of streamed queries; lse in powers of two
};

// Rows of two matrices: `count` of them from here, each `stride` elements behind the one before.
struct RowPair {
  const bf16 *first, *second;
  int64_t first_stride, second_stride;
  int count;
};
__device__ __forceinline__ RowPair queries_at(const Call& call, const AttentionShape& shape, int64_t head,
                                              int64_t token, int count) {
  const int64_t dim = shape.head_dim;
  return {call.inputs.q + (head * shape.tokens + token) * dim, call.outputs.dout + (token * shape.heads + head) * dim,
          dim, shape.heads * dim, count};
}
__device__ __forceinline__ RowPair keys_at(const Call& call, const AttentionShape& shape, int64_t kv_head, int64_t row,
                                           int count) {
  const int64_t first = (kv_head * shape.cache + row) * shape.head_dim;
  return {call.inputs.k + first, call.inputs.v + first, shape.head_dim, shape.head_dim, count};
}
template <class AnyTile>
__device__ __forceinline__ void load_pair_async(AnyTile& first, AnyTile& second, const RowPair& rows) {
  load_async(first, rows.first, rows.first_stride, rows.count);
  load_async(second, rows.second, rows.second_stride, rows.count);
}

// Element i of part j of a thread's sums: its row within the warp's sixteen, and its column.
__device__ __forceinline__ int row_of(int i) { return lane_of_warp() / 4 + i / 2 * 8; }
__device__ __forceinline__ int column_of(int j, int i) { return 8 * j + lane_of_warp() % 4 * 2 + i % 2; }

__device__ __forceinline__ bool lies_in(const Range& range, int at) { return at >= range.begin && at < range.end; }

template <int n>
__device__ __forceinline__ void scale_by(float (&sums)[n][4], float factor) {
#pragma unroll
  for (int j = 0; j < n; j++)
    for (int i = 0; i < 4; i++) sums[j][i] *= factor;
}

// dq of 64 queries of a head. grid: heads, places of tiles of queries
template <int head_dim>
__global__ void __launch_bounds__(warps* warp_size) backward_queries_kernel(Call call, AttentionShape shape) {
  auto& tiles = shared_memory<BackwardTiles<head_dim>>();
  const int64_t head = blockIdx.x, kv_head = head * shape.kv_heads / shape.heads, window = call.options.window;
  const HeldTile tile = held_tile<Side::queries>(shape, held);
  const Sequence sequence = tile.sequence;
  const int first_query = tile.first;
  if (first_query >= sequence.queries) return;
  const int queries = static_cast<int>(smaller(held, sequence.queries - first_query)), own = warp_of_block() * 16;
  const int64_t token = sequence.first_query + first_query;
  const int begin = sequence.visible(first_query, window).begin;
  const int end = sequence.visible(first_query + queries - 1, window).end;
  const float scale = call.options.scale * log2_of_e;

  // Of the two rows that this thread has elements of.
  Range seen[2];  // keys
  float lse[2], delta[2];
  for (int half = 0; half < 2; half++) {
    seen[half] = sequence.visible(first_query + own + row_of(2 * half), window);
    const int64_t at = head * shape.tokens + token + smaller(own + row_of(2 * half), queries - 1);
    lse[half] = call.outputs.lse[at] * log2_of_e;
    delta[half] = call.delta[at];
  }
  const auto fetch = [&](int key, int buffer) {
    load_pair_async(tiles.other_first[buffer], tiles.other_second[buffer],
                    keys_at(call, shape, kv_head, sequence.first_key + key, end - key));
    commit_copies();
  };
  Sums<head_dim> dq;
  set_zero(dq);
  load_pair_async(tiles.first, tiles.second, queries_at(call, shape, head, token, queries));
  fetch(begin, 0);
  for (int key = begin, buffer = 0; key < end; key += streamed, buffer ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // this pair is here, and all are done with the one before
    if (key + streamed < end) fetch(key + streamed, buffer ^ 1);
    Sums<streamed> p, ds;
    product_of_rows(p, tiles.first, own, tiles.other_first[buffer]);
    product_of_rows(ds, tiles.second, own, tiles.other_second[buffer]);
#pragma unroll
    for (int j = 0; j < streamed / 8; j++)
      for (int i = 0; i < 4; i++) {
        const bool sees = lies_in(seen[i / 2], key + column_of(j, i));
        ds[j][i] = sees ? power_of_two(p[j][i] * scale - lse[i / 2]) * (ds[j][i] - delta[i / 2]) : 0;
      }
    add_product_of_values(dq, ds, tiles.other_first[buffer]);
  }
  wait_for_copies<0>();  // even where there was no key
  __syncthreads();
  scale_by(dq, call.options.scale);
  store_rows(dq, tiles.first, own, call.gradients.dq + (head * shape.tokens + token + own) * head_dim, head_dim,
             queries - own);
}

// dk and dv of 64 keys of a key/value head. grid: key/value heads, places of tiles of keys
template <int head_dim>
__global__ void __launch_bounds__(warps* warp_size) backward_keys_kernel(Call call, AttentionShape shape) {
  auto& tiles = shared_memory<BackwardTiles<head_dim>>();
  const int64_t kv_head = blockIdx.x, group = shape.heads / shape.kv_heads, window = call.options.window;
  const HeldTile tile = held_tile<Side::keys>(shape, held);
  const Sequence sequence = tile.sequence;
  const int first_key = tile.first;
  if (first_key >= sequence.keys) return;
  const int keys = static_cast<int>(smaller(held, sequence.keys - first_key)), own = warp_of_block() * 16;
  const int64_t row = sequence.first_key + first_key;
  const Range viewers = sequence.viewers(first_key, first_key + keys, window);
  const int parts = static_cast<int>(ceil_div(viewers.end - viewers.begin, streamed));  // of the queries of one head
  const int steps = static_cast<int>(group) * parts;
  const float scale = call.options.scale * log2_of_e;

  const auto query_of = [&](int step) { return viewers.begin + step % parts * streamed; };
  const auto fetch = [&](int step, int buffer) {
    const int query = query_of(step), count = viewers.end - query, i = static_cast<int>(threadIdx.x);
    const int64_t head = kv_head * group + step / parts, token = sequence.first_query + query;
    load_pair_async(tiles.other_first[buffer], tiles.other_second[buffer], queries_at(call, shape, head, token, count));
    commit_copies();
    if (i >= streamed) return;
    const int64_t at = head * shape.tokens + token + i;
    tiles.lse[buffer][i] = i < count ? call.outputs.lse[at] * log2_of_e : 0;
    tiles.delta[buffer][i] = i < count ? call.delta[at] : 0;
  };
  Range seen_by[2];  // queries, of the two keys that this thread has elements of
  for (int half = 0; half < 2; half++) {
    const int key = first_key + own + row_of(2 * half);
    seen_by[half] = sequence.viewers(key, key + 1, window);
  }
  Sums<head_dim> dk, dv;
  set_zero(dk);
  set_zero(dv);
  load_pair_async(tiles.first, tiles.second, keys_at(call, shape, kv_head, row, keys));
  commit_copies();
  if (steps > 0) fetch(0, 0);
  for (int step = 0; step < steps; step++) {
    const int buffer = step % 2;
    wait_for_copies<0>();
    __syncthreads();  // this pair is here, and all are done with the one before
    if (step + 1 < steps) fetch(step + 1, buffer ^ 1);
    Sums<streamed> p, ds;
    product_of_rows(p, tiles.first, own, tiles.other_first[buffer]);
    product_of_rows(ds, tiles.second, own, tiles.other_second[buffer]);
#pragma unroll
    for (int j = 0; j < streamed / 8; j++)
      for (int i = 0; i < 4; i++) {
        const int column = column_of(j, i);
        const bool seen = lies_in(seen_by[i / 2], query_of(step) + column);
        p[j][i] = seen ? power_of_two(p[j][i] * scale - tiles.lse[buffer][column]) : 0;
        ds[j][i] = seen ? p[j][i] * (ds[j][i] - tiles.delta[buffer][column]) : 0;
      }
    add_product_of_values(dv, p, tiles.other_second[buffer]);
    add_product_of_values(dk, ds, tiles.other_first[buffer]);
  }
  wait_for_copies<0>();  // even where no query sees these keys
  __syncthreads();
  scale_by(dk, call.options.scale);
  const int64_t to = (kv_head * shape.cache + row + own) * head_dim;
  store_rows(dk, tiles.first, own, call.gradients.dk + to, head_dim, keys - own);
  store_rows(dv, tiles.second, own, call.gradients.dv + to, head_dim, keys - own);
}

}  // namespace

void attention_backward_tiles(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionOutputs<bf16>& outputs,
                              const AttentionShape& shape, const AttentionOptions& options,
                              const AttentionGradients<bf16>& gradients, void* workspace) {
  auto* const delta = static_cast<float*>(workspace);
  attention_delta(stream, outputs, delta, shape);
  const Call call{inputs, outputs, gradients, options, delta};
  with_head_dim(shape.head_dim, [&]<int head_dim>() {
    constexpr size_t bytes = sizeof(BackwardTiles<head_dim>);
    launch(stream, "attention_backward", grid_of_tiles<Side::queries>(shape, held), warps * warp_size, bytes,
           backward_queries_kernel<head_dim>, call, shape);
    launch(stream, "attention_backward", grid_of_tiles<Side::keys>(shape, held), warps * warp_size, bytes,
           backward_keys_kernel<head_dim>, call, shape);
  });
}

}  // namespace llama_tp::kernels
