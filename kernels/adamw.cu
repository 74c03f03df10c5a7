// AdamW in one pass over memory (Loshchilov & Hutter 2019), in torch's order of operations:
//
//   g = grad · min(1, max_grad_norm / (sqrt(squared_norm) + 1e-6));   w = w · (1 − lr · decay)
//   m += (1 − β1)(g − m);   v = β2 v + (1 − β2) g²;   w −= lr / (1 − β1ᵗ) · m / (sqrt(v / (1 − β2ᵗ)) + ε);   grad = 0
//
// grad, m, v: f32. w: f32, or bf16 with rest (i16), which together are an f32 master (base/split_float.h). Bound by
// memory: reads and writes 16 bytes a parameter; the gradient's zero is among them.
#include <cmath>

#include "kernels/kernels.h"
#include "kernels/vector.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;

// One step's scalars, computed in f64 and rounded to f32 where torch does.
struct Step {
  float max_grad_norm, keep, beta1_rest, beta2, beta2_rest, root_correction2, epsilon, minus_step_size;
};

Step step_of(const AdamWOptions& options) {
  const double rate = options.learning_rate;
  const auto count = static_cast<double>(options.step);
  Step step{};
  step.max_grad_norm = static_cast<float>(options.max_grad_norm);
  step.keep = static_cast<float>(1 - rate * options.weight_decay);
  step.beta1_rest = static_cast<float>(1 - options.beta1);
  step.beta2 = static_cast<float>(options.beta2);
  step.beta2_rest = static_cast<float>(1 - options.beta2);
  step.root_correction2 = static_cast<float>(std::sqrt(1 - std::pow(options.beta2, count)));
  step.epsilon = static_cast<float>(options.epsilon);
  step.minus_step_size = static_cast<float>(-rate / (1 - std::pow(options.beta1, count)));
  return step;
}

// NaN in the norm reaches every weight, as in torch: hiding it would train on garbage.
__device__ __forceinline__ float clip_coefficient(float max_grad_norm, double squared_norm) {
  const float coefficient = max_grad_norm / (static_cast<float>(sqrt(squared_norm)) + 1e-6f);
  return coefficient > 1 ? 1.0f : coefficient;
}

// The f32 master weight; an f32 weight is its own. NaN has one form, since rounding could carry a NaN's bits over into
// those of a number.
__device__ __forceinline__ float load_master(const float* w, const int16_t*, int64_t i) { return w[i]; }
__device__ __forceinline__ float load_master(const bf16* w, const int16_t* rest, int64_t i) {
  return float_of_bits((uint32_t{w[i].bits} << 16) + static_cast<uint32_t>(int32_t{rest[i]}));
}
__device__ __forceinline__ void store_master(float* w, int16_t*, int64_t i, float master) { w[i] = master; }
__device__ __forceinline__ void store_master(bf16* w, int16_t* rest, int64_t i, float master) {
  const uint32_t bits = master == master ? bits_of_float(master) : 0x7fc00000u;
  w[i].bits = static_cast<uint16_t>((bits + 0x8000u) >> 16);
  rest[i] = static_cast<int16_t>(static_cast<uint16_t>(bits));
}

template <class X>
__global__ void __launch_bounds__(threads)
    adamw_kernel(Step step, AdamWTensors<X> tensors, const double* squared_norm, int64_t n) {
  auto& clip = shared_memory<float>();
  if (threadIdx.x == 0) clip = squared_norm == nullptr ? 1.0f : clip_coefficient(step.max_grad_norm, *squared_norm);
  __syncthreads();
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= n) return;
  const float g = tensors.grad[i] * clip;
  const float weight = load_master(tensors.w, tensors.rest, i) * step.keep;
  const float m = tensors.m[i] + step.beta1_rest * (g - tensors.m[i]);
  const float v = tensors.v[i] * step.beta2 + step.beta2_rest * g * g;
  const float denominator = sqrtf(v) / step.root_correction2 + step.epsilon;
  store_master(tensors.w, tensors.rest, i, weight + step.minus_step_size * m / denominator);
  tensors.m[i] = m;
  tensors.v[i] = v;
  tensors.grad[i] = 0;
}

}  // namespace

template <class X>
void adamw(Stream stream, const AdamWOptions& options, const AdamWTensors<X>& tensors, const double* squared_norm,
           int64_t n) {
  const double* const norm = options.max_grad_norm > 0 ? squared_norm : nullptr;
  launch(stream, "adamw", {grid_axis(parts_of(n, threads), "adamw")}, threads, sizeof(float), adamw_kernel<X>,
         step_of(options), tensors, norm, n);
}

template void adamw(Stream, const AdamWOptions&, const AdamWTensors<float>&, const double*, int64_t);
template void adamw(Stream, const AdamWOptions&, const AdamWTensors<bf16>&, const double*, int64_t);

}  // namespace llama_tp::kernels
