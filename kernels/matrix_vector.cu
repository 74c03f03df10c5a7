// y[T, N] = x[T, K] · w[N, K]ᵀ + bias[N] for a few tokens, as when generating.
//
// x, w, bias: X; y: X or f32. A warp takes a row of w and reads it once, 16 bytes a lane, for all tokens; x comes from
// the nearest cache. Bound by memory: reads w, 2·T FLOP a weight; with more tokens by instructions, so that bf16 then takes
// tensor cores (matrix_few_tokens.cu).
#include "kernels/kernels.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int warps = 8;

template <int tokens, int n, class X, class Y>
__global__ void __launch_bounds__(warps* warp_size)
    matrix_vector_kernel(const X* x, const X* w, const X* bias, Y* y, int64_t rows, int64_t k, int ahead) {
  let_next_grid_begin();
  const int64_t row = int64_t{blockIdx.x} * warps + warp_of_block();
  if (row < rows) prefetch_begin(w + row * k, ahead);  // while the grid ahead still makes x
  wait_for_grids_ahead();
  if (row >= rows) return;
  float sums[tokens] = {};
  each_piece<4, n>(w + row * k, lane_of_warp() * n, static_cast<int>(k), warp_size * n,
                   [&](int i, const float(&weights)[n]) {
#pragma unroll
                     for (int t = 0; t < tokens; t++) {
                       float values[n];
                       load(values, x + t * k + i);
                       for (int j = 0; j < n; j++) sums[t] = fmaf(weights[j], values[j], sums[t]);
                     }
                   });
#pragma unroll
  for (int t = 0; t < tokens; t++) {
    const float sum = warp_sum(sums[t]);
    if (lane_of_warp() == 0) y[t * rows + row] = rounded<Y>(bias == nullptr ? sum : sum + widened(bias[row]));
  }
}

// A token takes an instruction a byte, of which there is time for six, and as many bytes of x from the nearest cache as
// there are of w: two take half of either (docs/performance.md).
constexpr int64_t most_without_tensor_cores = 2;

// Calls call.operator()<tokens>(). Errors: more than `most`.
template <int most, class Call>
void with_tokens(int64_t tokens, const Call& call) {
  if constexpr (most == 0)
    fail("matrix_vector: ", tokens, " tokens; it is made for 1 to ", few_tokens);
  else if (tokens == most)
    call.template operator()<most>();
  else
    with_tokens<most - 1>(tokens, call);
}

// width: of the loads.
template <int width, class X, class Y>
void start(Stream stream, const X* x, const X* w, const X* bias, Y* y, int64_t tokens, int64_t n, int64_t k) {
  constexpr bool on_tensor_cores = width == per_16_bytes<bf16>;  // no load of f32 is as wide
  if constexpr (on_tensor_cores)
    if (tokens > most_without_tensor_cores) return matrix_few_tokens(stream, x, w, bias, y, tokens, n, k);
  with_tokens<on_tensor_cores ? most_without_tensor_cores : few_tokens>(tokens, [&]<int count>() {
    launch_early(stream, "matrix_vector", grid_of("matrix_vector", ceil_div(n, warps)), warps * warp_size, 0,
                 matrix_vector_kernel<count, width, X, Y>, x, w, bias, y, n, k, elements_ahead<X>(n, k));
  });
}

}  // namespace

template <class X, class Y>
void matrix_vector(Stream stream, const X* x, const X* w, const X* bias, Y* y, int64_t tokens, int64_t n, int64_t k) {
  with_width<X>(k, {x, w}, [&]<int width>() { start<width>(stream, x, w, bias, y, tokens, n, k); });
}

template void matrix_vector(Stream, const float*, const float*, const float*, float*, int64_t, int64_t, int64_t);
template void matrix_vector(Stream, const bf16*, const bf16*, const bf16*, bf16*, int64_t, int64_t, int64_t);
template void matrix_vector(Stream, const bf16*, const bf16*, const bf16*, float*, int64_t, int64_t, int64_t);

}  // namespace llama_tp::kernels
