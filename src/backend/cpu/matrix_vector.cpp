#include "backend/cpu/matrix_vector.h"

#include "backend/cpu/lanes.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/scratch.h"

namespace llama_tp {

namespace {

// One step of a dot product: how many elements it takes and how it adds them. x is f32 whatever the weights are …
template <class Weight>
struct InFloats {
  using Input = float;
  static constexpr int64_t step = lanes;
  static Floats weight(const Weight* w) { return load(w, Whole{0}); }
  static Floats input(const float* x) { return load(x, Whole{0}); }
  static Floats add(Floats sum, Floats w, Floats x) { return sum + w * x; }
};

// … except where the CPU multiplies pairs of bf16 and adds both products to an f32.
#if defined(__AVX512BF16__)
struct InPairs {
  using Input = bf16;
  static constexpr int64_t step = 2 * lanes;
  static __m512bh weight(const bf16* w) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(w)); }
  static __m512bh input(const bf16* x) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(x)); }
  static Floats add(Floats sum, __m512bh w, __m512bh x) { return _mm512_dpbf16_ps(sum, w, x); }
};
using InBf16 = InPairs;
#else
using InBf16 = InFloats<bf16>;
#endif

// Rows of x, in a copy whose rows are not whole pages apart: those of x, and of w, would share the few places that the
// first cache has for such addresses.
template <class Element>
struct View {
  const Element* data;
  int64_t stride;
};
int64_t stride_of(int64_t k) { return (k + 31) / 32 * 32 + 32; }

template <class Element, class To>
View<To> copied(const Tensor& x, To* to) {
  const int64_t k = x.shape[1], stride = stride_of(k);
  for (int64_t t = 0; t < x.shape[0]; t++) {
    const Element* const from = x.as<Element>() + t * k;
    if constexpr (std::is_same_v<Element, To>)
      std::copy_n(from, k, to + t * stride);
    else
      each_lanes(k, [&](auto i) { store(to + t * stride, i, load(from, i)); });
  }
  return {to, stride};
}

float number(float value) { return value; }
float number(bf16 value) { return to_float(value); }

// sums[r][t] = w[r] · x[t] for `rows` rows that are read side by side, `apart` elements from each other. Each of these
// streams goes on where it ended with the next rows: processors lose one that starts anew with every row.
template <class Dot, int tokens, int rows, class Weight>
void dots(const Weight* w, int64_t apart, View<typename Dot::Input> x, int64_t k, float (&sums)[rows][tokens]) {
  constexpr int chains = rows * tokens < 4 ? 4 : 1;  // an addition waits for the one before it
  Floats sum[chains][rows][tokens] = {};
  const auto step = [&](int chain, int64_t i) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) prefetch(w + r * apart, Whole{i});
#pragma GCC unroll 8
    for (int t = 0; t < tokens; t++) {
      const auto input = Dot::input(x.data + t * x.stride + i);
#pragma GCC unroll 8
      for (int r = 0; r < rows; r++)
        sum[chain][r][t] = Dot::add(sum[chain][r][t], Dot::weight(w + r * apart + i), input);
    }
  };
  int64_t i = 0;
  for (; i + chains * Dot::step <= k; i += chains * Dot::step)
#pragma GCC unroll 4
    for (int chain = 0; chain < chains; chain++) step(chain, i + chain * Dot::step);
  for (; i + Dot::step <= k; i += Dot::step) step(0, i);
  for (int r = 0; r < rows; r++)
    for (int t = 0; t < tokens; t++) {
      for (int chain = 1; chain < chains; chain++) sum[0][r][t] += sum[chain][r][t];
      sums[r][t] = total_of_lanes(sum[0][r][t]);
      for (int64_t rest = i; rest < k; rest++)
        sums[r][t] += number(w[r * apart + rest]) * number(x.data[t * x.stride + rest]);
    }
}

struct Output {
  const Tensor& bias;
  const Tensor& y;
  void put(int64_t t, int64_t n, float sum) const {
    const int64_t at = t * y.shape[1] + n;
    if (bias.exists()) sum += bias.dtype == DType::bf16 ? to_float(bias.as<bf16>()[n]) : bias.as<float>()[n];
    if (y.dtype == DType::bf16)
      y.as<bf16>()[at] = to_bf16(sum);
    else
      y.as<float>()[at] = sum;
  }
};

// The rows of a range in `rows` bands; returns where the rest begins.
template <class Dot, int tokens, int rows, class Weight>
int64_t multiply_bands(Range range, const Weight* w, View<typename Dot::Input> x, int64_t k, const Output& output) {
  const int64_t band = (range.end - range.begin) / rows;
  for (int64_t n = range.begin; n < range.begin + band; n++) {
    float sums[rows][tokens];
    dots<Dot, tokens, rows>(w + n * k, band * k, x, k, sums);
    for (int r = 0; r < rows; r++)
      for (int t = 0; t < tokens; t++) output.put(t, n + r * band, sums[r][t]);
  }
  return range.begin + rows * band;
}

// As many rows side by side as leave the sums in registers.
template <int tokens>
constexpr int rows_at_once = tokens <= 4 ? 4 : 3;

template <class Dot, int tokens, class Weight>
void multiply(int threads, const Weight* w, View<typename Dot::Input> x, int64_t rows, int64_t k,
              const Output& output) {
  const int64_t work = rows * k / 2;  // w is read, and nothing as large is written
  parallel_ranges(threads_for(work, threads), rows, rows_at_once<tokens>, [&](Range range, int) {
    range.begin = multiply_bands<Dot, tokens, rows_at_once<tokens>>(range, w, x, k, output);
    multiply_bands<Dot, tokens, 1>(range, w, x, k, output);
  });
}

template <class Dot, class Weight>
void multiply(int threads, const Tensor& w, View<typename Dot::Input> x, const Output& output) {
  const auto with = [&]<int tokens>() {
    multiply<Dot, tokens>(threads, w.as<Weight>(), x, w.shape[0], w.shape[1], output);
  };
  switch (output.y.shape[0]) {
    case 1:
      return with.template operator()<1>();
    case 2:
      return with.template operator()<2>();
    case 3:
      return with.template operator()<3>();
    case 4:
      return with.template operator()<4>();
    case 5:
      return with.template operator()<5>();
    case 6:
      return with.template operator()<6>();
    case 7:
      return with.template operator()<7>();
    default:
      return with.template operator()<8>();
  }
}

template <class Dot, class Weight>
void multiply(int threads, const Tensor& x, const Tensor& w, const Output& output, void* workspace) {
  using Input = typename Dot::Input;
  Scratch scratch(workspace);
  Input* const copy = scratch.take<Input>(x.shape[0] * stride_of(x.shape[1]));
  multiply<Dot, Weight>(threads, w, copied<Weight>(x, copy), output);
}

}  // namespace

int64_t matrix_vector_workspace(const Tensor& x) {
  Scratch scratch(nullptr);
  scratch.take<float>(x.shape[0] * stride_of(x.shape[1]));
  return scratch.used();
}

void multiply_few(int threads, const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y, void* workspace) {
  const Output output{bias, y};
  if (w.dtype == DType::f32)
    multiply<InFloats<float>, float>(threads, x, w, output, workspace);
  else
    multiply<InBf16, bf16>(threads, x, w, output, workspace);
}

}  // namespace llama_tp
