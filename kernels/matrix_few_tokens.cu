// y[T, N] = x[T, K] · w[N, K]ᵀ + bias[N] for up to eight tokens of bf16, on tensor cores: matrix_vector.cu's product
// where that would be bound by instructions.
//
// y: bf16 or f32; x and w 16-byte aligned, K % 8 == 0. A block takes 16 rows of w, the left factor, its warps pieces of K
// in turns; the tokens are the eight columns of the right factor. In which order a product counts K is free as long as
// both factors have the same, so a lane takes 16 successive bytes of a row for two products, straight from memory. At
// the end the sums of the warps are added in their order. Bound by memory: reads w, past the nearest cache, where x stays.
#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int warps = 8, rows_a_block = 16, blocks_a_multiprocessor = 3;
// Of K: 8 elements of each of the four lanes that share a row; so many of these steps are loaded at once.
constexpr int elements = per_16_bytes<bf16>, step = 4 * elements, steps_at_once = 4, round_size = steps_at_once * step;

// The four sums of each lane, for every warp.
struct SumsOfWarps {
  float of[warps][4][warp_size];
};

// A lane's rows of w, eight apart, and its token's row of x.
struct Rows {
  const bf16 *w, *w_below, *x;
};
// The same 8 elements of K of each.
struct Factors {
  Bytes16 w, w_below, x;
};

// sums += the products of a round of K. whole: it ends before the rows do.
template <bool whole>
__device__ __forceinline__ void add_round(float (&sums)[4], const Rows& from, int begin, int end) {
  Factors factors[steps_at_once] = {};
#pragma unroll
  for (int i = 0; i < steps_at_once; i++) {
    const int at = begin + i * step + lane_of_warp() % 4 * elements;
    if (whole || at < end)
      factors[i] = {load_bytes16_once(from.w + at), load_bytes16_once(from.w_below + at), load_bytes16(from.x + at)};
  }
#pragma unroll
  for (int i = 0; i < steps_at_once; i++)
    for (int j = 0; j < 4; j += 2) {
      const auto& [w, below, x] = factors[i];
      multiply_add(sums, {w.words[j], below.words[j], w.words[j + 1], below.words[j + 1]}, x.words[j], x.words[j + 1]);
    }
}

template <class Y>
__global__ void __launch_bounds__(warps* warp_size, blocks_a_multiprocessor)
    matrix_few_tokens_kernel(const bf16* x, const bf16* w, const bf16* bias, Y* y, int64_t tokens, int64_t rows,
                             int64_t k, int ahead) {
  let_next_grid_begin();
  auto& scratch = shared_memory<SumsOfWarps>();
  const int lane = lane_of_warp(), group = lane / 4, end = static_cast<int>(k);
  const int64_t first_row = int64_t{blockIdx.x} * rows_a_block;
#pragma unroll
  for (int i = 0; i < rows_a_block; i += warps) {
    const int64_t row = first_row + i + warp_of_block();
    if (row < rows) prefetch_begin(w + row * k, ahead);  // while the grid ahead still makes x
  }
  wait_for_grids_ahead();
  // Where w or x has ended its last row is read once more, and the product not written.
  const Rows from{w + smaller(first_row + group, rows - 1) * k, w + smaller(first_row + group + 8, rows - 1) * k,
                  x + smaller(group, tokens - 1) * k};
  float sums[4] = {};
  for (int begin = warp_of_block() * round_size; begin < end; begin += warps * round_size)
    if (begin + round_size <= end)
      add_round<true>(sums, from, begin, end);
    else
      add_round<false>(sums, from, begin, end);
  for (int i = 0; i < 4; i++) scratch.of[warp_of_block()][i][lane] = sums[i];
  __syncthreads();
  // The first four warps have one sum of each lane.
  const int i = warp_of_block();
  const int64_t row = first_row + group + i / 2 * 8, token = lane % 4 * 2 + i % 2;
  if (i >= 4 || row >= rows || token >= tokens) return;
  float sum = bias == nullptr ? 0 : widened(bias[row]);
  for (const auto& of_warp : scratch.of) sum += of_warp[i][lane];
  y[token * rows + row] = rounded<Y>(sum);
}

}  // namespace

template <class Y>
void matrix_few_tokens(Stream stream, const bf16* x, const bf16* w, const bf16* bias, Y* y, int64_t tokens, int64_t n,
                       int64_t k) {
  require(tokens >= 1 && tokens <= few_tokens, "matrix_few_tokens: ", tokens, " tokens; it is made for 1 to ",
          few_tokens);
  launch_early(stream, "matrix_few_tokens", grid_of("matrix_few_tokens", ceil_div(n, rows_a_block)), warps * warp_size,
               sizeof(SumsOfWarps), matrix_few_tokens_kernel<Y>, x, w, bias, y, tokens, n, k,
               elements_ahead<bf16>(n, k));
}

template void matrix_few_tokens(Stream, const bf16*, const bf16*, const bf16*, bf16*, int64_t, int64_t, int64_t);
template void matrix_few_tokens(Stream, const bf16*, const bf16*, const bf16*, float*, int64_t, int64_t, int64_t);

}  // namespace llama_tp::kernels
