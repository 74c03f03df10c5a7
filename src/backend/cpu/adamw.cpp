// AdamW in one pass over memory: 16 bytes a parameter are read and written once, the gradient's zero among them.
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/masters.h"
#include "backend/cpu/rows.h"
#include "base/optimizer_step.h"

namespace llama_tp {

namespace {

template <class X>
void update(const AdamWStep& step, float clip, X* w, int16_t* rest, float* grad, float* m, float* v, int64_t count) {
  each_lanes(count, [&](auto i) {
    prefetch(grad, i);
    prefetch(w, i);
    prefetch(m, i);
    prefetch(v, i);
    if constexpr (sizeof(X) == 2) prefetch(rest, i);
    const Floats g = load(grad, i) * clip;
    const Floats weight = load_master(w, rest, i) * step.keep;
    const Floats first = load(m, i) + step.beta1_rest * (g - load(m, i));
    const Floats second = load(v, i) * step.beta2 + step.beta2_rest * g * g;
    const Floats denominator = square_root(second) / step.root_correction2 + step.epsilon;
    store_master(w, rest, i, weight + step.minus_step_size * first / denominator);
    store(m, i, first);
    store(v, i, second);
    store(grad, i, Floats{});
  });
}

}  // namespace

void CpuBackend::run_adamw(const AdamWOptions& options, const Tensor& w, const Tensor& rest, const Tensor& grad,
                           const Tensor& m, const Tensor& v, const Tensor& squared_norm) {
  const AdamWStep step = step_of(options);
  const float clip = clip_coefficient(step.max_grad_norm, *squared_norm.as<double>());
  with_type(w.dtype, [&]<class X>(X) {
    const auto block = [&](int64_t begin, int64_t count) {
      int16_t* low = rest.exists() ? rest.as<int16_t>() + begin : nullptr;
      update(step, clip, w.as<X>() + begin, low, grad.as<float>() + begin, m.as<float>() + begin, v.as<float>() + begin,
             count);
    };
    each_block(threads_, w.elements(), block, 5);  // as many arrays
  });
}

}  // namespace llama_tp
