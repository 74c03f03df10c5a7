// The feed-forward's activations, with and without a gate. Each activation is a type that gives its value and its
// derivative together, of which forward uses the value; the loops are written once for all of them.
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/rows.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

namespace {

struct Slope {
  Floats value, derivative;
};

Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

struct Silu {
  static Slope at(Floats x) {
    const Floats s = sigmoid(x);
    return {x * s, s * (1.0f + x * (1.0f - s))};
  }
};

// ½x(1 + tanh u) with u = √(2/π)(x + 0.044715x³) is x·sigmoid(2u), which keeps its digits where tanh nears −1.
// (Hendrycks & Gimpel 2016)
struct GeluTanh {
  static constexpr float twice_root = 1.5957691216f, cubic = 0.044715f;  // 2√(2/π)
  static Slope at(Floats x) {
    const Floats s = sigmoid(twice_root * (x + cubic * x * x * x));
    return {x * s, s + x * s * (1.0f - s) * (twice_root * (1.0f + 3.0f * cubic * x * x))};
  }
};

struct ReluSquared {
  static Slope at(Floats x) {
    const Floats positive = x > 0.0f ? x : Floats{};
    return {positive * positive, 2.0f * positive};
  }
};

template <class Kernel>
void with_activation(Activation kind, const Kernel& kernel) {
  switch (kind) {
    case Activation::silu:
      return kernel(Silu{});
    case Activation::gelu_tanh:
      return kernel(GeluTanh{});
    case Activation::relu_squared:
      return kernel(ReluSquared{});
  }
}

template <class Act, class X>
void forward_row(const X* input, bool gated, X* y, int64_t width) {
  if (gated)
    each_lanes(width, [&](auto i) { store(y, i, Act::at(load(input, i)).value * load(input + width, i)); });
  else
    each_lanes(width, [&](auto i) { store(y, i, Act::at(load(input, i)).value); });
}

// dy becomes y, and input its gradient.
template <class Act, class X>
void backward_row(X* dy, X* input, bool gated, int64_t width) {
  if (gated)
    each_lanes(width, [&](auto i) {
      const Slope act = Act::at(load(input, i));
      const Floats up = load(input + width, i), d = load(dy, i);
      store(input, i, d * up * act.derivative);
      store(input + width, i, d * act.value);
      store(dy, i, act.value * up);
    });
  else
    each_lanes(width, [&](auto i) {
      const Slope act = Act::at(load(input, i));
      store(input, i, load(dy, i) * act.derivative);
      store(dy, i, act.value);
    });
}

}  // namespace

void CpuBackend::run_activation_forward(const Tensor& input, const ActivationOptions& options, const Tensor& y) {
  const int64_t width = y.shape[1], stride = input.shape[1];
  with_activation(options.kind, [&]<class Act>(Act) {
    with_type(y.dtype, [&]<class X>(X) {
      each_row(threads_, y.shape[0], stride, [&](int64_t t) {
        forward_row<Act>(input.as<X>() + t * stride, options.gated, y.as<X>() + t * width, width);
      });
    });
  });
}

void CpuBackend::run_activation_backward(const Tensor& dy, const Tensor& input, const ActivationOptions& options) {
  const int64_t width = dy.shape[1], stride = input.shape[1];
  with_activation(options.kind, [&]<class Act>(Act) {
    with_type(dy.dtype, [&]<class X>(X) {
      each_row(threads_, dy.shape[0], stride, [&](int64_t t) {
        backward_row<Act>(dy.as<X>() + t * width, input.as<X>() + t * stride, options.gated, width);
      });
    });
  });
}

}  // namespace llama_tp
