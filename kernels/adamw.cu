// AdamW in one pass over memory (Loshchilov & Hutter 2019), in torch's order of operations:
//
//   g = gradient · clip_coefficient(max_grad_norm, squared_norm);   gradient = 0;   w = w · (1 − lr · decay)
//   m += (1 − β1)(g − m);   v = β2 v + (1 − β2) g²;   w −= lr / (1 − β1ᵗ) · m / (sqrt(v / (1 − β2ᵗ)) + ε)
//
// gradient, m, v: f32. w: f32, or bf16 with rest (i16), which together are an f32 master (kernels/masters.h). Bound by
// memory: reads and writes 16 bytes a parameter; the gradient's zero is among them. A thread takes four parameters.
#include "base/optimizer_step.h"
#include "kernels/kernels.h"
#include "kernels/masters.h"

namespace llama_tp::kernels {

namespace {

constexpr int threads = 256;

// n parameters a thread, whose loads are under way while the first thread looks at the norm.
template <int n, class X>
__global__ void __launch_bounds__(threads)
    adamw_kernel(AdamWStep step, OptimizerTensors<X> tensors, const double* squared_norm, int64_t count) {
  auto& clip = shared_memory<float>();
  const int64_t i = (int64_t{blockIdx.x} * threads + threadIdx.x) * n;
  const int64_t from = smaller(i, count - n);  // past the end the last n, since all threads come to the barrier
  const MastersOf<n, X> masters(tensors, from);
  float g[n], m[n], v[n], w[n];
  load(g, tensors.gradient + from);
  load(m, tensors.m + from);
  load(v, tensors.v + from);
  if (threadIdx.x == 0) clip = clip_coefficient(step.max_grad_norm, *squared_norm);
  __syncthreads();
  if (i >= count) return;
  masters.get(w);
  for (int j = 0; j < n; j++) {
    g[j] *= clip;
    m[j] += step.beta1_rest * (g[j] - m[j]);
    v[j] = v[j] * step.beta2 + step.beta2_rest * g[j] * g[j];
    const float denominator = sqrtf(v[j]) / step.root_correction2 + step.epsilon;
    w[j] = w[j] * step.keep + step.minus_step_size * m[j] / denominator;
  }
  MastersOf<n, X>::store(tensors, i, w);
  store(tensors.m + i, m);
  store(tensors.v + i, v);
  store<n>(tensors.gradient + i, {});
}

}  // namespace

template <class X>
void adamw(Stream stream, const AdamWOptions& options, const OptimizerTensors<X>& tensors, const double* squared_norm,
           int64_t n) {
  with_width<float>(n, {tensors.w, tensors.rest, tensors.gradient, tensors.m, tensors.v}, [&]<int width>() {
    launch(stream, "adamw", grid_of("adamw", ceil_div(n, int64_t{threads} * width)), threads, sizeof(float),
           adamw_kernel<width, X>, step_of(options), tensors, squared_norm, n);
  });
}

template void adamw(Stream, const AdamWOptions&, const OptimizerTensors<float>&, const double*, int64_t);
template void adamw(Stream, const AdamWOptions&, const OptimizerTensors<bf16>&, const double*, int64_t);

}  // namespace llama_tp::kernels
