// Attention, forward, of few queries of bf16 with heads of 64 or 128, on tensor cores: attention_rows.cu's kernel over a
// chunk of keys, where that is bound by instructions.
//
// A warp has a query of up to eight heads that share their keys. The heads are the rows of the left factors, whose other
// eight rows are zeros; sixteen keys at a time are the columns of the right factors in q · kᵀ, and their rows in p · v. As
// in matrix_few_tokens.cu lanes load what they need straight from memory, since the order of D in the first product is
// free, and that of the columns in the second. p is rounded to bf16. Bound by memory: reads each key and value once for
// eight heads.
#include "kernels/attention_chunks.h"
#include "kernels/attention_rows.h"

namespace llama_tp::kernels {

namespace {

constexpr int keys_at_once = 16, warps_a_multiprocessor = 8;  // the latter for the registers

__device__ __forceinline__ uint32_t low_halves(uint32_t a, uint32_t b) { return (a & 0xffffu) | b << 16; }
__device__ __forceinline__ uint32_t high_halves(uint32_t a, uint32_t b) { return a >> 16 | (b & 0xffff0000u); }

// A row that `lanes` lanes share, the one at `place` with every lanes-th piece of 8 elements.
template <int dim, int lanes>
struct PartOfRow {
  static constexpr int count = dim / (8 * lanes);
  Bytes16 pieces[count];

  PartOfRow() = default;
  __device__ __forceinline__ PartOfRow(const bf16* row, int place) {
#pragma unroll
    for (int i = 0; i < count; i++) pieces[i] = load_bytes16(row + 8 * (lanes * i + place));
  }
};
// Lane 4g + t has part t of a row of q or k, and part g of a row of v: its columns of the products.
template <int dim>
using PartOfKey = PartOfRow<dim, 4>;
template <int dim>
using PartOfValue = PartOfRow<dim, 8>;

// sums += q · kᵀ of heads and keys.
template <int dim>
__device__ __forceinline__ void add_product(float (&sums)[4], const PartOfKey<dim>& q, const PartOfKey<dim>& k) {
#pragma unroll
  for (int i = 0; i < PartOfKey<dim>::count; i++)
    for (int j = 0; j < 4; j += 2)
      multiply_add(sums, {q.pieces[i].words[j], 0, q.pieces[i].words[j + 1], 0}, k.pieces[i].words[j],
                   k.pieces[i].words[j + 1]);
}

// Softmax of head g over the keys so far. Element i of part 8m + j of the sums is column 64m + 8(2t + i) + j of v.
template <int dim>
struct Heads {
  float sums[dim / 8][4] = {};
  float offset = lowest_score, total = 0;  // total: of this lane's keys

  // scores: of this lane's keys of two products, the first two of each.
  __device__ __forceinline__ void add(const float (&scores)[2][4], const PartOfValue<dim> (&v)[4]) {
    float most = fmaxf(offset, fmaxf(fmaxf(scores[0][0], scores[0][1]), fmaxf(scores[1][0], scores[1][1])));
    most = fmaxf(most, exchange(most, 1));
    most = fmaxf(most, exchange(most, 2));
    const float factor = power_of_two(offset - most);
    offset = most;
    total *= factor;
    uint32_t p[2];
#pragma unroll
    for (int product = 0; product < 2; product++) {
      const float first = power_of_two(scores[product][0] - most), second = power_of_two(scores[product][1] - most);
      total += first + second;
      p[product] = pair_of(first, second);
    }
#pragma unroll
    for (int j = 0; j < dim / 8; j++) {
      for (int i = 0; i < 2; i++) sums[j][i] *= factor;
      const auto word_of = [&](int key) { return v[key].pieces[j / 8].words[j % 8 / 2]; };
      const auto halves = [&](int key) {
        return j % 2 == 0 ? low_halves(word_of(key), word_of(key + 1)) : high_halves(word_of(key), word_of(key + 1));
      };
      multiply_add(sums[j], {p[0], 0, p[1], 0}, halves(0), halves(2));
    }
  }

  // What all lanes of the head have.
  __device__ __forceinline__ void finish() {
    total += exchange(total, 1);
    total += exchange(total, 2);
  }
  template <class Y>
  __device__ __forceinline__ void write(Y* row, float factor) const {
#pragma unroll
    for (int piece = 0; piece < dim / 64; piece++)
      for (int i = 0; i < 2; i++) {
        float values[8];
        for (int j = 0; j < 8; j++) values[j] = sums[8 * piece + j][i] * factor;
        store(row + 64 * piece + (lane_of_warp() % 4 * 2 + i) * 8, values);
      }
  }
};

// grid: queries of the longest sequence × chunks, blocks of heads, sequences; one warp
template <int dim>
__global__ void __launch_bounds__(warp_size, warps_a_multiprocessor)
    attention_few_queries_kernel(AttentionInputs<bf16> inputs, AttentionShape shape, AttentionOptions options,
                                 Output<bf16> output, Partial partial, Chunks chunks) {
  begin_behind_grids_ahead();
  const Sequence sequence = sequence_at(shape.ranges, blockIdx.z);
  const int64_t query = blockIdx.x / chunks.count, chunk = blockIdx.x % chunks.count;
  if (query >= sequence.queries) return;
  const int64_t token = sequence.first_query + query;
  const Range keys = visible_in_chunk(sequence, query, options.window, chunks, chunk);
  const int group = lane_of_warp() / 4, place = lane_of_warp() % 4, own = 2 * place;
  const HeadOfGroup head(shape, group);
  const PartOfKey<dim> q(inputs.q + (head.number * shape.tokens + token) * dim, place);
  const int64_t first = (head.kv * shape.cache + sequence.first_key) * dim;
  const auto offset_of = [&](int key) { return first + int64_t{key < keys.end ? key : keys.end - 1} * dim; };
  const float scale = options.scale * log2_of_e;
  Heads<dim> heads;
  for (int key = keys.begin; key < keys.end; key += keys_at_once) {
    // Behind the last key that is read once more, and weighs nothing.
    const PartOfKey<dim> k[2] = {{inputs.k + offset_of(key + group), place},
                                 {inputs.k + offset_of(key + 8 + group), place}};
    PartOfValue<dim> v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = {inputs.v + offset_of(key + i / 2 * 8 + own + i % 2), group};
    float scores[2][4] = {};
#pragma unroll
    for (int product = 0; product < 2; product++) {
      add_product(scores[product], q, k[product]);
      for (int i = 0; i < 2; i++)
        scores[product][i] = key + 8 * product + own + i < keys.end ? scores[product][i] * scale : minus_infinity;
    }
    heads.add(scores, v);
  }
  heads.finish();
  if (!head.exists) return;
  const int64_t row = head.number * shape.tokens + token, at = row * chunks.count + chunk;
  const bool leads = lane_of_warp() % 4 == 0;
  if (chunks.count == 1) {  // a query that sees no key gets 0 and −∞
    heads.write(output.out + (token * shape.heads + head.number) * dim, heads.total == 0 ? 0 : 1 / heads.total);
    if (output.lse != nullptr && leads) output.lse[row] = log_sum(heads.offset, heads.total);
  } else {
    heads.write(partial.sums + at * dim, 1);
    if (leads) partial.offset[at] = heads.offset, partial.total[at] = heads.total;
  }
}

}  // namespace

void attention_forward_few_queries(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                                   const AttentionOptions& options, bf16* out, float* lse, void* workspace) {
  require_positive_scale(options);
  require(has_few_queries(shape.head_dim), "attention: heads of ", shape.head_dim,
          " for a few queries on tensor cores; 64 and 128 are known");
  const Output<bf16> output{out, lse};
  with_chunks(stream, shape, output, workspace, [&](const Partial& partial, const Chunks& chunks) {
    with_grids_of_sequences(shape, [&](const AttentionShape& some) {
      launch_early(stream, "attention_few_queries",
                   grid_of("attention", some.longest_query * chunks.count, blocks_of_heads(some), some.sequences),
                   warp_size, 0,
                   some.head_dim == 64 ? attention_few_queries_kernel<64> : attention_few_queries_kernel<128>, inputs,
                   some, options, output, partial, chunks);
    });
  });
}

}  // namespace llama_tp::kernels
