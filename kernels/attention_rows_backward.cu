// Attention, backward, a warp a row: for f32 and for head sizes that have no tiles.
//
//   P = exp(scale q·k − lse)     dv = Pᵀ dout     dS = P ∘ (dout·v − δ), δ = dout·out
//   dq = scale dS k              dk = scale dSᵀ q
//
// Shapes as in forward; dq: [A, T, D]; dk, dv: [G, T, D]. One kernel takes a query a warp and walks over its keys, one
// takes a key a warp and walks over the heads and queries that see it: every sum has one owner and one order, at the
// price of computing P twice. Bound by arithmetic outside the tensor cores.
#include "kernels/attention_delta.h"
#include "kernels/attention_rows.h"

namespace llama_tp::kernels {

namespace {

template <class X>
struct Call {
  AttentionInputs<X> inputs;
  AttentionOutputs<X> outputs;
  AttentionGradients<X> gradients;
  AttentionOptions options;
  const float* delta;
};

// A query with what belongs to it.
template <class Row>
struct Query {
  Row q, dout;
  float lse, delta;  // lse in powers of two

  template <class X>
  __device__ __forceinline__ Query(const Call<X>& call, const AttentionShape& shape, int64_t head, int64_t token)
      : q(call.inputs.q + (head * shape.tokens + token) * shape.head_dim, shape.head_dim),
        dout(call.outputs.dout + (token * shape.heads + head) * shape.head_dim, shape.head_dim),
        lse(call.outputs.lse[head * shape.tokens + token] * log2_of_e),
        delta(call.delta[head * shape.tokens + token]) {}
};

struct Slope {
  float p, ds;
};
template <class Row>
__device__ __forceinline__ Slope slope_of(const Query<Row>& query, const Row& k, const Row& v, float scale) {
  const float p = power_of_two(query.q.dot(k) * scale * log2_of_e - query.lse);
  return {p, p * (query.dout.dot(v) - query.delta) * scale};
}

// grid: queries of the longest sequence, blocks of heads, sequences
template <class Row, class X>
__global__ void rows_backward_queries_kernel(Call<X> call, AttentionShape shape) {
  const Sequence sequence = sequence_at(shape.ranges, blockIdx.z);
  const HeadOfWarp head(shape);
  const int query = static_cast<int>(blockIdx.x);
  if (query >= sequence.queries || !head.exists) return;
  const int64_t token = sequence.first_query + query, dim = shape.head_dim;
  const Query<Row> own(call, shape, head.number, token);
  const int64_t first = (head.kv * shape.cache + sequence.first_key) * dim;
  const Range keys = sequence.visible(query, call.options.window);
  Row dq;
  for (int key = keys.begin; key < keys.end; key++) {
    const Row k(call.inputs.k + first + key * dim, dim), v(call.inputs.v + first + key * dim, dim);
    dq.add(slope_of(own, k, v, call.options.scale).ds, k);
  }
  dq.write(call.gradients.dq + (head.number * shape.tokens + token) * dim, dim);
}

// grid: keys of the longest sequence, key/value heads, sequences; one warp
template <class Row, class X>
__global__ void rows_backward_keys_kernel(Call<X> call, AttentionShape shape) {
  const Sequence sequence = sequence_at(shape.ranges, blockIdx.z);
  const int key = static_cast<int>(blockIdx.x);
  if (key >= sequence.keys) return;
  const int64_t kv_head = blockIdx.y, group = shape.heads / shape.kv_heads, dim = shape.head_dim;
  const int64_t at = (kv_head * shape.cache + sequence.first_key + key) * dim;
  const Row k(call.inputs.k + at, dim), v(call.inputs.v + at, dim);
  const Range queries = sequence.viewers(key, key + 1, call.options.window);
  Row dk, dv;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
    for (int query = queries.begin; query < queries.end; query++) {
      const Query<Row> other(call, shape, head, sequence.first_query + query);
      const Slope slope = slope_of(other, k, v, call.options.scale);
      dk.add(slope.ds, other.q);
      dv.add(slope.p, other.dout);
    }
  dk.write(call.gradients.dk + at, dim);
  dv.write(call.gradients.dv + at, dim);
}

}  // namespace

template <class X>
void attention_backward_rows(Stream stream, const AttentionInputs<X>& inputs, const AttentionOutputs<X>& outputs,
                             const AttentionShape& shape, const AttentionOptions& options,
                             const AttentionGradients<X>& gradients, void* workspace) {
  auto* const delta = static_cast<float*>(workspace);
  attention_delta(stream, outputs, delta, shape);
  const Call<X> call{inputs, outputs, gradients, options, delta};
  with_row(shape.head_dim, [&]<class Row>() {
    with_grids_of_sequences(shape, [&](const AttentionShape& some) {
      launch(stream, "attention_rows_backward",
             grid_of("attention", some.longest_query, blocks_of_heads(some), some.sequences), threads_of_heads(some), 0,
             rows_backward_queries_kernel<Row, X>, call, some);
      launch(stream, "attention_rows_backward", grid_of("attention", some.longest_key, some.kv_heads, some.sequences),
             warp_size, 0, rows_backward_keys_kernel<Row, X>, call, some);
    });
  });
}

template void attention_backward_rows(Stream, const AttentionInputs<float>&, const AttentionOutputs<float>&,
                                      const AttentionShape&, const AttentionOptions&, const AttentionGradients<float>&,
                                      void*);
template void attention_backward_rows(Stream, const AttentionInputs<bf16>&, const AttentionOutputs<bf16>&,
                                      const AttentionShape&, const AttentionOptions&, const AttentionGradients<bf16>&,
                                      void*);

}  // namespace llama_tp::kernels
