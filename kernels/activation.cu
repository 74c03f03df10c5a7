// The feed-forward's activations.
//
//   gated (Shazeer 2020):  y[t, f] = act(input[t, f]) · input[t, F + f]          else:  y[t, f] = act(input[t, f])
//   act:  silu x·σ(x);   gelu_tanh x·σ(2√(2/π)(x + 0.044715x³));   relu_squared max(x, 0)²
//
// input: [T, 2F] or [T, F]; y: [T, F]. A thread takes 16 bytes of y. Bound by memory: forward reads 2 and writes 1
// value an element of y, backward reads 3 and writes 3, since it works in place: input becomes its gradient, and dy
// becomes y, which would else be computed again by itself.
#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;

struct Slope {
  float value, derivative;
};

// Rounded division would take as many instructions as the rest.
__device__ __forceinline__ float sigmoid(float x) { return reciprocal(1.0f + expf(-x)); }

struct Silu {
  static __device__ __forceinline__ Slope at(float x) {
    const float s = sigmoid(x);
    return {x * s, s * (1.0f + x * (1.0f - s))};
  }
};

struct GeluTanh {
  static __device__ __forceinline__ Slope at(float x) {
    constexpr float twice_root = 1.5957691216f, cubic = 0.044715f;
    const float s = sigmoid(twice_root * (x + cubic * x * x * x));
    return {x * s, s + x * s * (1.0f - s) * (twice_root * (1.0f + 3.0f * cubic * x * x))};
  }
};

struct ReluSquared {
  static __device__ __forceinline__ Slope at(float x) {
    const float positive = x > 0 ? x : 0;
    return {positive * positive, 2.0f * positive};
  }
};

// Where the elements of a thread lie: n from `column` of row `row`. Divided in 32 bits: in 64 it would take longer than
// the activation.
struct Piece {
  int64_t row, column;
};
template <int n>
__device__ __forceinline__ Piece piece_of(int64_t width) {
  const uint32_t piece = blockIdx.x * threads + threadIdx.x, pieces = static_cast<uint32_t>(width / n);
  return {piece / pieces, int64_t{piece % pieces} * n};
}

template <class Act, bool gated, int n, class X>
__global__ void activation_forward_kernel(const X* input, X* y, int64_t tokens, int64_t width) {
  begin_behind_grids_ahead();
  const Piece at = piece_of<n>(width);
  if (at.row >= tokens) return;
  const X* const from = input + at.row * (gated ? 2 : 1) * width + at.column;
  float x[n], up[n], out[n];
  load(x, from);
  if (gated) load(up, from + width);
  for (int i = 0; i < n; i++) out[i] = Act::at(x[i]).value * (gated ? up[i] : 1.0f);
  store(y + at.row * width + at.column, out);
}

// A thread reads all of its inputs before it writes.
template <class Act, bool gated, int n, class X>
__global__ void activation_backward_kernel(X* dy, X* input, int64_t tokens, int64_t width) {
  const Piece at = piece_of<n>(width);
  if (at.row >= tokens) return;
  X* const at_dy = dy + at.row * width + at.column;
  X* const at_input = input + at.row * (gated ? 2 : 1) * width + at.column;
  float d[n], x[n], up[n], dx[n], dup[n], y[n];
  load(d, at_dy);
  load(x, at_input);
  if (gated) load(up, at_input + width);
  for (int i = 0; i < n; i++) {
    const Slope act = Act::at(x[i]);
    dx[i] = d[i] * (gated ? up[i] : 1.0f) * act.derivative;
    dup[i] = d[i] * act.value;
    y[i] = act.value * (gated ? up[i] : 1.0f);
  }
  store(at_input, dx);
  if (gated) store(at_input + width, dup);
  store(at_dy, y);
}

// Calls start.operator()<Act, gated>().
template <class Start>
void with_activation(const ActivationOptions& options, const Start& start) {
  const auto with = [&]<class Act>() {
    if (options.gated)
      start.template operator()<Act, true>();
    else
      start.template operator()<Act, false>();
  };
  switch (options.kind) {
    case Activation::silu:
      return with.template operator()<Silu>();
    case Activation::gelu_tanh:
      return with.template operator()<GeluTanh>();
    case Activation::relu_squared:
      return with.template operator()<ReluSquared>();
  }
}

// Errors: more pieces than 32 bits can number, which are as many as 24 bits of blocks.
dim3 blocks_for(int64_t elements, int n) {
  const int64_t blocks = ceil_div(elements, int64_t{threads} * n);
  require(blocks < 1 << 24, "cuda: activation: ", elements, " elements are more than it can number");
  return grid_of("activation", blocks);
}

}  // namespace

template <class X>
void activation_forward(Stream stream, const X* input, const ActivationOptions& options, X* y, int64_t tokens,
                        int64_t width) {
  with_activation(options, [&]<class Act, bool gated>() {
    with_width<X>(width, {input, y}, [&]<int n>() {
      launch_early(stream, "activation_forward", blocks_for(tokens * width, n), threads, 0,
                   activation_forward_kernel<Act, gated, n, X>, input, y, tokens, width);
    });
  });
}

template <class X>
void activation_backward(Stream stream, X* dy, X* input, const ActivationOptions& options, int64_t tokens,
                         int64_t width) {
  with_activation(options, [&]<class Act, bool gated>() {
    with_width<X>(width, {dy, input}, [&]<int n>() {
      launch(stream, "activation_backward", blocks_for(tokens * width, n), threads, 0,
             activation_backward_kernel<Act, gated, n, X>, dy, input, tokens, width);
    });
  });
}

template void activation_forward(Stream, const float*, const ActivationOptions&, float*, int64_t, int64_t);
template void activation_forward(Stream, const bf16*, const ActivationOptions&, bf16*, int64_t, int64_t);
template void activation_backward(Stream, float*, float*, const ActivationOptions&, int64_t, int64_t);
template void activation_backward(Stream, bf16*, bf16*, const ActivationOptions&, int64_t, int64_t);

}  // namespace llama_tp::kernels
