// Sums over whole tensors in an order that depends on their sizes alone.
//
//   add_sum_of_squares: result += Σ x², x f32, result [1] f64; the square of a float is exact in f64
//   bias_backward:      db[n] += Σ_t dy[t, n], dy [T, N], db f32
//
// Squares: a block sums 65,536 elements into the workspace, then one block adds the blocks. Bias: a block takes 32
// columns, each of its eight warps every eighth token. Bound by memory: every value is read once.
#include "kernels/kernels.h"
#include "kernels/reduce.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256, warps = threads / warp_size;
constexpr int64_t squares_a_block = 65536;

struct SquaresScratch {
  WarpValues<double> sums;
};

__global__ void __launch_bounds__(threads) squares_kernel(const float* x, double* sums, int64_t n) {
  const int64_t begin = blockIdx.x * squares_a_block, end = smaller(begin + squares_a_block, n);
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += threads) sum += static_cast<double>(x[i]) * x[i];
  sum = over_block<Sum>(sum, shared_memory<SquaresScratch>().sums);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(threads) add_sums_kernel(const double* sums, int64_t blocks, double* result) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < blocks; i += threads) sum += sums[i];
  sum = over_block<Sum>(sum, shared_memory<SquaresScratch>().sums);
  if (threadIdx.x == 0) *result += sum;
}

struct BiasScratch {
  float sums[warps][warp_size];
};

template <class X>
__global__ void __launch_bounds__(threads) bias_backward_kernel(const X* dy, float* db, int64_t tokens, int64_t width) {
  auto& scratch = shared_memory<BiasScratch>();
  const int64_t column = int64_t{blockIdx.x} * warp_size + lane_of_warp();
  float sum = 0;
  for (int64_t t = warp_of_block(); column < width && t < tokens; t += warps) sum += widened(dy[t * width + column]);
  scratch.sums[warp_of_block()][lane_of_warp()] = sum;
  __syncthreads();
  if (warp_of_block() != 0 || column >= width) return;
  for (int warp = 1; warp < warps; warp++) sum += scratch.sums[warp][lane_of_warp()];
  db[column] += sum;
}

}  // namespace

int64_t add_sum_of_squares_workspace(int64_t n) {
  return parts_of(n, squares_a_block) * static_cast<int64_t>(sizeof(double));
}

void add_sum_of_squares(Stream stream, const float* x, double* result, int64_t n, void* workspace) {
  const int64_t blocks = parts_of(n, squares_a_block);
  auto* const sums = static_cast<double*>(workspace);
  launch(stream, "add_sum_of_squares", {grid_axis(blocks, "add_sum_of_squares")}, threads, sizeof(SquaresScratch),
         squares_kernel, x, sums, n);
  launch(stream, "add_sum_of_squares", {1}, threads, sizeof(SquaresScratch), add_sums_kernel, sums, blocks, result);
}

template <class X>
void bias_backward(Stream stream, const X* dy, float* db, int64_t tokens, int64_t width) {
  launch(stream, "bias_backward", {grid_axis(parts_of(width, warp_size), "bias_backward")}, threads,
         sizeof(BiasScratch), bias_backward_kernel<X>, dy, db, tokens, width);
}

template void bias_backward(Stream, const float*, float*, int64_t, int64_t);
template void bias_backward(Stream, const bf16*, float*, int64_t, int64_t);

}  // namespace llama_tp::kernels
