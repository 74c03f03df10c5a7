// AdamW in one pass over memory: 16 bytes a parameter are read and written once, the gradient's zero among them.
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/masters.h"
#include "backend/cpu/rows.h"
#include "base/optimizer_step.h"

namespace llama_tp {

namespace {

template <class X>
void update(const AdamWStep& step, float clip, const OptimizerTensors& tensors, int64_t begin, int64_t count) {
  X* const w = tensors.w.as<X>() + begin;
  int16_t* const rest = tensors.rest.exists() ? tensors.rest.as<int16_t>() + begin : nullptr;
  float* const gradient = tensors.gradient.as<float>() + begin;
  float* const m = tensors.m.as<float>() + begin;
  float* const v = tensors.v.as<float>() + begin;
  each_lanes(count, [&](auto i) {
    prefetch(gradient, i);
    prefetch(w, i);
    prefetch(m, i);
    prefetch(v, i);
    if constexpr (sizeof(X) == 2) prefetch(rest, i);
    const Floats g = load(gradient, i) * clip;
    const Floats weight = load_master(w, rest, i) * step.keep;
    const Floats first = load(m, i) + step.beta1_rest * (g - load(m, i));
    const Floats second = load(v, i) * step.beta2 + step.beta2_rest * g * g;
    const Floats denominator = square_root(second) / step.root_correction2 + step.epsilon;
    store_master(w, rest, i, weight + step.minus_step_size * first / denominator);
    store(m, i, first);
    store(v, i, second);
    store(gradient, i, Floats{});
  });
}

}  // namespace

void CpuBackend::run_adamw(const AdamWOptions& options, const OptimizerTensors& tensors, const Tensor& squared_norm) {
  const AdamWStep step = step_of(options);
  const float clip = clip_coefficient(step.max_grad_norm, *squared_norm.as<double>());
  with_type(tensors.w.dtype, [&]<class X>(X) {
    const auto block = [&](int64_t begin, int64_t count) { update<X>(step, clip, tensors, begin, count); };
    each_block(threads_, tensors.w.elements(), block, 5);  // as many arrays
  });
}

}  // namespace llama_tp
