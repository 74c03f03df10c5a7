// Sums over whole tensors in an order that depends on their sizes alone.
//
//   add_sum_of_squares: result += Σ x², x f32, result [1] f64; the square of a float is exact in f64
//   bias_backward:      db[n] += Σ_t dy[t, n], dy [T, N], db f32
//
// Squares: a block sums 65,536 elements into the workspace, then one block adds the blocks. Bias: a block takes 32
// columns, of which a few lanes read a token's, 16 bytes each. Bound by memory: every value is read once.
#include "kernels/kernels.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"
#include "kernels/workspace.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;

struct SquaresScratch {
  WarpValues<double> sums;
};

template <int n>
__global__ void __launch_bounds__(threads) squares_kernel(const float* x, double* sums, int64_t count) {
  const int64_t begin = blockIdx.x * squares_a_block, end = smaller(begin + squares_a_block, count);
  double sum = 0;
  each_piece<4, n>(x, begin + thread_of_block() * n, end, int64_t{threads * n}, [&](int64_t, const float(&values)[n]) {
    for (int j = 0; j < n; j++) sum += static_cast<double>(values[j]) * values[j];
  });
  sum = over_block<Sum>(sum, shared_memory<SquaresScratch>().sums);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(threads) add_sums_kernel(const double* sums, int64_t blocks, double* result) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += threads) sum += sums[i];
  sum = over_block<Sum>(sum, shared_memory<SquaresScratch>().sums);
  if (threadIdx.x == 0) *result += sum;
}

constexpr int bias_threads = 512, bias_warps = bias_threads / warp_size, columns_a_block = 32;

struct BiasScratch {
  float sums[bias_warps][columns_a_block];
};

// A few neighbouring lanes read a row's columns of this block, the others those of other rows.
template <int n, class X>
__global__ void __launch_bounds__(bias_threads)
    bias_backward_kernel(const X* dy, float* db, int64_t tokens, int64_t width) {
  auto& scratch = shared_memory<BiasScratch>();
  constexpr int lanes_a_row = columns_a_block / n, rows_at_once = bias_threads / lanes_a_row;
  const int64_t first_column = int64_t{blockIdx.x} * columns_a_block, row = threadIdx.x / lanes_a_row;
  const int own = static_cast<int>(threadIdx.x) % lanes_a_row * n;  // first of the thread's columns
  float sums[n] = {};
  if (first_column + own < width)
    each_piece<8, n>(dy + first_column + own, row * width, tokens * width, rows_at_once * width,
                     [&](int64_t, const float(&values)[n]) {
                       for (int j = 0; j < n; j++) sums[j] += values[j];
                     });
#pragma unroll
  for (int mask = lanes_a_row; mask < warp_size; mask *= 2)
    for (int j = 0; j < n; j++) sums[j] += exchange(sums[j], mask);
  if (lane_of_warp() < lanes_a_row)
    for (int j = 0; j < n; j++) scratch.sums[warp_of_block()][own + j] = sums[j];
  __syncthreads();
  const int64_t column = first_column + threadIdx.x;
  if (threadIdx.x >= columns_a_block || column >= width) return;
  float sum = db[column];
  for (int warp = 0; warp < bias_warps; warp++) sum += scratch.sums[warp][threadIdx.x];
  db[column] = sum;
}

}  // namespace

void add_sum_of_squares(Stream stream, const float* x, double* result, int64_t n, void* workspace) {
  const int64_t blocks = ceil_div(n, squares_a_block);
  auto* const sums = static_cast<double*>(workspace);
  with_width<float>(n, {x}, [&]<int width>() {
    launch(stream, "add_sum_of_squares", grid_of("add_sum_of_squares", blocks), threads, sizeof(SquaresScratch),
           squares_kernel<width>, x, sums, n);
  });
  launch(stream, "add_sum_of_squares", {1}, threads, sizeof(SquaresScratch), add_sums_kernel, sums, blocks, result);
}

template <class X>
void bias_backward(Stream stream, const X* dy, float* db, int64_t tokens, int64_t width) {
  with_width<X>(width, {dy}, [&]<int n>() {
    launch(stream, "bias_backward", grid_of("bias_backward", ceil_div(width, columns_a_block)), bias_threads,
           sizeof(BiasScratch), bias_backward_kernel<n, X>, dy, db, tokens, width);
  });
}

template void bias_backward(Stream, const float*, float*, int64_t, int64_t);
template void bias_backward(Stream, const bf16*, float*, int64_t, int64_t);

}  // namespace llama_tp::kernels
