// Sums, multiples, zeros and copies, bound by memory: y += x reads 2 and writes 1 value an element, scale and
// gather_rows read and write 1, zero writes. feed_choices moves a few numbers: its time is that of a launch.
//
//   add: y += x      scale: y = factor · x      zero: x = 0
//   gather_rows: y[i] = x[rows[i]]; rows [n] i32, x [T, H], y [n, H]
//   feed_choices: next[i] = recent[i, 63] = ids[i]; ids, next [n] i32, recent [n, 64] i32
#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;

template <int n, class X>
__global__ void add_kernel(const X* x, X* y, int64_t count) {
  const int64_t i = (int64_t{blockIdx.x} * threads + threadIdx.x) * n;
  if (i >= count) return;
  float sum[n], added[n];
  load(sum, y + i);
  load(added, x + i);
  for (int j = 0; j < n; j++) sum[j] += added[j];
  store(y + i, sum);
}

constexpr int scaled_pieces = 2;  // a thread's

template <int n, class X>
__global__ void scale_kernel(const X* x, float factor, X* y, int64_t count) {
  constexpr int64_t step = threads * n, of_block = scaled_pieces * step;
  const int64_t begin = blockIdx.x * of_block;
  each_piece<scaled_pieces, n>(x, begin + thread_of_block() * n, smaller(begin + of_block, count), step,
                               [&](int64_t i, float(&values)[n]) {
                                 for (int j = 0; j < n; j++) values[j] *= factor;
                                 store(y + i, values);
                               });
}

// `step` bytes a thread, 16 of an aligned start and else 1; the last thread fewer.
template <int step>
__global__ void zero_kernel(char* x, int64_t bytes) {
  const int64_t i = (int64_t{blockIdx.x} * threads + threadIdx.x) * step;
  if (step == 16 && i + step <= bytes)
    store_bytes16(x + i, {});
  else
    for (int64_t j = i; j < smaller(i + step, bytes); j++) x[j] = 0;
}

template <int n, class X>
__global__ void gather_rows_kernel(const X* x, const int32_t* rows, X* y, int64_t hidden) {
  begin_behind_grids_ahead();
  X* const to = y + blockIdx.x * hidden;
  each_piece<4, n>(x + rows[blockIdx.x] * hidden, thread_of_block() * n, static_cast<int>(hidden), threads * n,
                   [&](int i, const float(&values)[n]) { store(to + i, values); });
}

__global__ void feed_choices_kernel(const int32_t* ids, int32_t* next, int32_t* recent, int64_t n) {
  begin_behind_grids_ahead();
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i < n) next[i] = recent[(i + 1) * penalty_window - 1] = ids[i];
}

}  // namespace

template <class X>
void scale(Stream stream, const X* x, float factor, X* y, int64_t n) {
  with_width<X>(n, {x, y}, [&]<int width>() {
    launch(stream, "scale", grid_of("scale", ceil_div(n, int64_t{threads} * width * scaled_pieces)), threads, 0,
           scale_kernel<width, X>, x, factor, y, n);
  });
}

template <class X>
void add(Stream stream, const X* x, X* y, int64_t n) {
  with_width<X>(n, {x, y}, [&]<int width>() {
    launch(stream, "add", grid_of("add", ceil_div(n, int64_t{threads} * width)), threads, 0, add_kernel<width, X>, x, y,
           n);
  });
}

void zero(Stream stream, void* x, int64_t bytes) {
  const auto start = [&](void (*kernel)(char*, int64_t), int64_t step) {
    launch(stream, "zero", grid_of("zero", ceil_div(bytes, threads * step)), threads, 0, kernel, static_cast<char*>(x),
           bytes);
  };
  if (reinterpret_cast<uintptr_t>(x) % 16 == 0)
    start(zero_kernel<16>, 16);
  else
    start(zero_kernel<1>, 1);
}

template <class X>
void gather_rows(Stream stream, const X* x, const int32_t* rows, X* y, int64_t n, int64_t hidden) {
  with_width<X>(hidden, {x, y}, [&]<int width>() {
    launch_early(stream, "gather_rows", grid_of("gather_rows", n), threads, 0, gather_rows_kernel<width, X>, x, rows, y,
                 hidden);
  });
}

void feed_choices(Stream stream, const int32_t* ids, int32_t* next, int32_t* recent, int64_t n) {
  launch_early(stream, "feed_choices", grid_of("feed_choices", ceil_div(n, threads)), threads, 0, feed_choices_kernel,
               ids, next, recent, n);
}

template void scale(Stream, const float*, float, float*, int64_t);
template void scale(Stream, const bf16*, float, bf16*, int64_t);
template void add(Stream, const float*, float*, int64_t);
template void add(Stream, const bf16*, bf16*, int64_t);
template void gather_rows(Stream, const float*, const int32_t*, float*, int64_t, int64_t);
template void gather_rows(Stream, const bf16*, const int32_t*, bf16*, int64_t, int64_t);

}  // namespace llama_tp::kernels
