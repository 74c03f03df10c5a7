// Rotary positions (Su et al. 2021, in Hugging Face's half-split layout): of each head, elements i and i + R/2 rotate by
// the angle p_t · f_i; what is past R stays.
//
//   table[t] = scale · {cos(p_t f_0) …, sin(p_t f_0) …}                                   [T, R] f32
//   forward:  packed qkv [T, (A + 2G)·D]  →  q [A, T, D], k, v [G, C, D], token t in row slots[t] of k and v
//   backward: dq [A, T, D], dk, dv [G, T, D]  →  dqkv, rotated back
//
// A block takes a part of a token, a thread 16 bytes of both halves of a head. Bound by memory: reads and writes every
// value once.
#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256, piece_threads = 128;

__global__ void rope_table_kernel(const int32_t* positions, const float* frequencies, float scale, float* table,
                                  int64_t tokens, int64_t pairs) {
  begin_behind_grids_ahead();
  const int64_t at = int64_t{blockIdx.x} * threads + threadIdx.x, t = at / pairs, i = at % pairs;
  if (t >= tokens) return;
  const float angle = static_cast<float>(positions[t]) * frequencies[i];
  table[t * 2 * pairs + i] = scale * cosf(angle);
  table[t * 2 * pairs + pairs + i] = scale * sinf(angle);
}

// The head-major side. Heads are numbered as they are packed: those of q, of k, of v.
template <class X>
struct Heads {
  X *q, *k, *v;

  __device__ __forceinline__ X* row(const RopeShape& shape, int64_t head, int64_t t, int64_t slot) const {
    if (head < shape.heads) return q + (head * shape.tokens + t) * shape.head_dim;
    head -= shape.heads;
    X* const of = head < shape.kv_heads ? k : v;
    return of + ((head < shape.kv_heads ? head : head - shape.kv_heads) * shape.cache + slot) * shape.head_dim;
  }
};

template <int n, class X>
__device__ __forceinline__ void copy(const X* from, X* to) {
  float values[n];
  load(values, from);
  store(to, values);
}

template <int n, class X>
__device__ __forceinline__ void rotate(const X* from, const float* table, float sign, int64_t half, X* to) {
  float a[n], b[n], cosine[n], sine[n], first[n], second[n];
  load(a, from);
  load(b, from + half);
  load(cosine, table);
  load(sine, table + half);
  for (int j = 0; j < n; j++) {
    first[j] = a[j] * cosine[j] - b[j] * (sign * sine[j]);
    second[j] = b[j] * cosine[j] + a[j] * (sign * sine[j]);
  }
  store(to, first);
  store(to + half, second);
}

// How a head is divided into the pieces of threads, of n elements: those of the first half, which rotate with those of
// the second, and what stays.
struct Pieces {
  int rotating, all;
  Pieces(const RopeShape& shape, int n)
      : rotating(static_cast<int>(shape.rotary_dim / 2 / n)),
        all(rotating + static_cast<int>((shape.head_dim - shape.rotary_dim) / n)) {}
};

// forward: packed is read, heads are written; else the other way round, rotated back. grid: tokens, parts of their pieces
template <bool forward, int n, class X>
__global__ void __launch_bounds__(piece_threads)
    rope_kernel(X* packed, const float* table, const int32_t* slots, RopeShape shape, Heads<X> heads, Pieces pieces) {
  begin_behind_grids_ahead();
  const int64_t t = blockIdx.x, slot = slots == nullptr ? t : slots[t], half = shape.rotary_dim / 2;
  const int piece = static_cast<int>(blockIdx.y * piece_threads + threadIdx.x);
  const int head = piece / pieces.all, part = piece % pieces.all;
  const int all_heads = static_cast<int>(shape.heads + 2 * shape.kv_heads);
  if (head >= all_heads) return;
  X* const token = packed + (t * all_heads + head) * shape.head_dim;
  X* const row = heads.row(shape, head, t, slot);
  const X* const from = forward ? token : row;
  X* const to = forward ? row : token;
  const float* const rotation = table + t * shape.rotary_dim;
  const int64_t i = int64_t{part} * n, past = half + i;  // i within the first half, or past it and the second half
  if (part >= pieces.rotating) {
    copy<n>(from + past, to + past);
  } else if (head < shape.heads + shape.kv_heads) {
    rotate<n>(from + i, rotation + i, forward ? 1.0f : -1.0f, half, to + i);
  } else {
    copy<n>(from + i, to + i);
    copy<n>(from + half + i, to + half + i);
  }
}

// As many elements at once as divide every part of a head.
template <class X, class Start>
void with_pieces(const RopeShape& shape, std::initializer_list<const void*> pointers, const Start& start) {
  require(shape.rotary_dim % 2 == 0 && shape.rotary_dim <= shape.head_dim, "rope: ", shape.rotary_dim, " of ",
          shape.head_dim, " elements of a head rotate; an even number of them can");
  const int64_t half = shape.rotary_dim / 2;
  const bool wide = half % per_16_bytes<X> == 0 && shape.head_dim % per_16_bytes<X> == 0;
  with_width<X>(wide ? shape.head_dim : 1, pointers, start);
}

template <bool forward, class X>
void start_rope(Stream stream, const char* name, X* packed, const float* table, const int32_t* slots,
                const RopeShape& shape, const Heads<X>& heads) {
  with_pieces<X>(shape, {packed, table, heads.q, heads.k, heads.v}, [&]<int n>() {
    const Pieces pieces(shape, n);
    const int64_t of_token = (shape.heads + 2 * shape.kv_heads) * pieces.all;
    launch_early(stream, name, grid_of("rope", shape.tokens, ceil_div(of_token, piece_threads)), piece_threads, 0,
                 rope_kernel<forward, n, X>, packed, table, slots, shape, heads, pieces);
  });
}

}  // namespace

void rope_table(Stream stream, const int32_t* positions, const float* frequencies, float scale, float* table,
                int64_t tokens, int64_t pairs) {
  launch_early(stream, "rope_table", grid_of("rope", ceil_div(tokens * pairs, threads)), threads, 0, rope_table_kernel,
               positions, frequencies, scale, table, tokens, pairs);
}

template <class X>
void rope_forward(Stream stream, const X* qkv, const float* table, const int32_t* slots, const RopeShape& shape, X* q,
                  X* k, X* v) {
  start_rope<true>(stream, "rope_forward", const_cast<X*>(qkv), table, slots, shape, Heads<X>{q, k, v});
}

template <class X>
void rope_backward(Stream stream, const X* dq, const X* dk, const X* dv, const float* table, const RopeShape& shape,
                   X* dqkv) {
  const Heads<X> heads{const_cast<X*>(dq), const_cast<X*>(dk), const_cast<X*>(dv)};
  start_rope<false>(stream, "rope_backward", dqkv, table, nullptr, shape, heads);
}

template void rope_forward(Stream, const float*, const float*, const int32_t*, const RopeShape&, float*, float*,
                           float*);
template void rope_forward(Stream, const bf16*, const float*, const int32_t*, const RopeShape&, bf16*, bf16*, bf16*);
template void rope_backward(Stream, const float*, const float*, const float*, const float*, const RopeShape&, float*);
template void rope_backward(Stream, const bf16*, const bf16*, const bf16*, const float*, const RopeShape&, bf16*);

}  // namespace llama_tp::kernels
