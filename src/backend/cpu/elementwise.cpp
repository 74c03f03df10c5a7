// Copies, sums, multiples and zeros: nothing but memory traffic.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"
#include "base/parts.h"

namespace llama_tp {

namespace {

constexpr int64_t squares_block = 65536;  // elements; part of the result

int64_t blocks_of(int64_t n) { return ceil_div(n, squares_block); }

// Always sixteen running sums, whatever the processor: the square of a float is exact in f64, so that the result
// depends on nothing but x.
double sum_of_squares(const float* x, int64_t n) {
  typedef float Eight __attribute__((vector_size(32)));
  typedef double Sums __attribute__((vector_size(64)));
  constexpr int64_t step = 16;
  Sums even{}, odd{};
  int64_t i = 0;
  for (; i + step <= n; i += step) {
    Eight first, second;
    prefetch(x, Whole{i});
    std::memcpy(&first, x + i, sizeof first);
    std::memcpy(&second, x + i + step / 2, sizeof second);
    const Sums a = __builtin_convertvector(first, Sums), b = __builtin_convertvector(second, Sums);
    even += a * a;
    odd += b * b;
  }
  double sum = 0;
  for (; i < n; i++) sum += static_cast<double>(x[i]) * x[i];
  for (int lane = 0; lane < 8; lane++) sum += even[lane] + odd[lane];
  return sum;
}

}  // namespace

void CpuBackend::run_add(const Tensor& x, const Tensor& y) {
  with_type(y.dtype, [&]<class X>(X) {
    each_block(threads_, y.elements(), [&](int64_t begin, int64_t count) {
      const X* from = x.as<X>() + begin;
      X* to = y.as<X>() + begin;
      each_lanes(count, [&](auto i) { store(to, i, load(to, i) + load(from, i)); });
    });
  });
}

void CpuBackend::run_scale(const Tensor& x, float factor, const Tensor& y) {
  with_type(y.dtype, [&]<class X>(X) {
    each_block(threads_, y.elements(), [&](int64_t begin, int64_t count) {
      const X* from = x.as<X>() + begin;
      X* to = y.as<X>() + begin;
      each_lanes(count, [&](auto i) { store(to, i, factor * load(from, i)); });
    });
  });
}

void CpuBackend::run_zero(const Tensor& x) {
  each_block(threads_, x.bytes(),
             [&](int64_t begin, int64_t count) { std::memset(x.as<char>() + begin, 0, static_cast<size_t>(count)); });
}

void CpuBackend::run_gather_rows(const Tensor& x, const Tensor& rows, const Tensor& y) {
  const int64_t row_bytes = x.shape[1] * size_of(x.dtype);
  each_row(threads_, rows.shape[0], x.shape[1], [&](int64_t i) {
    std::memcpy(y.as<char>() + i * row_bytes, x.as<char>() + rows.as<int32_t>()[i] * row_bytes,
                static_cast<size_t>(row_bytes));
  });
}

int64_t CpuBackend::add_sum_of_squares_workspace(const Tensor& x) {
  return blocks_of(x.elements()) * size_of(DType::f64);
}

void CpuBackend::run_add_sum_of_squares(const Tensor& x, const Tensor& result, void* workspace) {
  const int64_t n = x.elements(), blocks = blocks_of(n);
  auto* sums = static_cast<double*>(workspace);
  each_row(threads_, blocks, squares_block, [&](int64_t block) {
    const int64_t begin = block * squares_block;
    sums[block] = sum_of_squares(x.as<float>() + begin, std::min(squares_block, n - begin));
  });
  for (int64_t block = 0; block < blocks; block++) *result.as<double>() += sums[block];
}

}  // namespace llama_tp
