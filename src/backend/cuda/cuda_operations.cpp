#include "backend/cuda/cuda_operations.h"

#include "backend/with_type.h"

namespace llama_tp {

namespace {

template <class X>
kernels::NormWeights<X> norm_weights(const Tensor& w, const Tensor& b, const NormOptions& options) {
  return {w.as<X>(), b.as<X>(), options};
}

kernels::RopeShape rope_shape(const Tensor& q, const Tensor& k, const Tensor& table) {
  return {.heads = q.shape[0],
          .kv_heads = k.shape[0],
          .head_dim = q.shape[2],
          .rotary_dim = table.shape[1],
          .tokens = q.shape[1],
          .cache = k.shape[1]};
}

}  // namespace

// ---- matrix products

void CudaOperations::run_linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                                        void* workspace) {
  if (y.elements() == 0) return;
  if (x.shape[0] > kernels::few_tokens) return multiply(x, w, bias, y, workspace);
  with_type(x.dtype, [&]<class X>(X) {
    const auto call = [&]<class Y>(Y) {
      kernels::matrix_vector(stream_, x.as<X>(), w.as<X>(), bias.as<X>(), y.as<Y>(), x.shape[0], w.shape[0],
                             w.shape[1]);
    };
    if (y.dtype == x.dtype)
      call(X{});
    else
      call(float{});
  });
}

void CudaOperations::run_bias_backward(const Tensor& dy, const Tensor& db, void*) {
  with_type(dy.dtype,
            [&]<class X>(X) { kernels::bias_backward(stream_, dy.as<X>(), db.as<float>(), dy.shape[0], dy.shape[1]); });
}

// ---- normalization

void CudaOperations::run_norm_forward(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                                      const Tensor& y, const Tensor& statistics) {
  with_type(x.dtype, [&]<class X>(X) {
    kernels::norm_forward(stream_, x.as<X>(), norm_weights<X>(w, b, options), y.as<X>(), statistics.as<float>(),
                          x.shape[0], x.shape[1]);
  });
}

void CudaOperations::run_add_norm_forward(const Tensor& part, const Tensor& residual, const Tensor& w, const Tensor& b,
                                          const NormOptions& options, const Tensor& sum, const Tensor& y,
                                          const Tensor& statistics) {
  with_type(part.dtype, [&]<class X>(X) {
    kernels::add_norm_forward(stream_, residual.as<X>(), part.as<X>(), norm_weights<X>(w, b, options), sum.as<X>(),
                              y.as<X>(), statistics.as<float>(), part.shape[0], part.shape[1]);
  });
}

void CudaOperations::run_norm_apply(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                                    const Tensor& statistics, const Tensor& y) {
  with_type(x.dtype, [&]<class X>(X) {
    kernels::norm_apply(stream_, x.as<X>(), norm_weights<X>(w, b, options), statistics.as<float>(), y.as<X>(),
                        x.shape[0], x.shape[1]);
  });
}

void CudaOperations::run_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w, const NormOptions& options,
                                       const Tensor& statistics, const Tensor& dx, const Tensor& dw, const Tensor& db,
                                       void* workspace) {
  with_type(dy.dtype, [&]<class X>(X) {
    kernels::norm_backward(stream_, dy.as<X>(), x.as<X>(), norm_weights<X>(w, {}, options), statistics.as<float>(),
                           {dx.as<X>(), dw.as<float>(), db.as<float>()}, dy.shape[0], dy.shape[1], workspace);
  });
}

void CudaOperations::run_head_norm_forward(const Tensor& qkv, const HeadNorms& norms, const Tensor& y) {
  with_type(qkv.dtype, [&]<class X>(X) {
    kernels::head_norm_forward(stream_, qkv.as<const X>(), {norms.q.as<X>(), norms.k.as<X>()}, shape_of(qkv, norms),
                               y.as<X>(), qkv.shape[0]);
  });
}

void CudaOperations::run_head_norm_backward(const Tensor& qkv, const HeadNorms& norms, const Tensor& dqkv,
                                            const Tensor& dq, const Tensor& dk, void* workspace) {
  with_type(qkv.dtype, [&]<class X>(X) {
    kernels::head_norm_backward(stream_, qkv.as<const X>(), {norms.q.as<X>(), norms.k.as<X>()}, shape_of(qkv, norms),
                                dqkv.as<X>(), dq.as<float>(), dk.as<float>(), qkv.shape[0], workspace);
  });
}

// ---- rotary positions

void CudaOperations::run_rope_table(const Tensor& positions, const Tensor& frequencies, float scale,
                                    const Tensor& table) {
  kernels::rope_table(stream_, positions.as<int32_t>(), frequencies.as<float>(), scale, table.as<float>(),
                      positions.shape[0], frequencies.shape[0]);
}

void CudaOperations::run_rope_forward(const Tensor& qkv, const Tensor& table, const Tensor& slots, const Tensor& q,
                                      const Tensor& k, const Tensor& v) {
  with_type(qkv.dtype, [&]<class X>(X) {
    kernels::rope_forward(stream_, qkv.as<X>(), table.as<float>(), slots.as<int32_t>(), rope_shape(q, k, table),
                          q.as<X>(), k.as<X>(), v.as<X>());
  });
}

void CudaOperations::run_rope_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& table,
                                       const Tensor& dqkv) {
  with_type(dqkv.dtype, [&]<class X>(X) {
    kernels::rope_backward(stream_, dq.as<X>(), dk.as<X>(), dv.as<X>(), table.as<float>(), rope_shape(dq, dk, table),
                           dqkv.as<X>());
  });
}

// ---- attention

void CudaOperations::run_attention_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                                           const Sequences& sequences, const AttentionOptions& options,
                                           const Tensor& out, const Tensor& lse, void* workspace) {
  const kernels::AttentionShape shape = shape_of(q, k, sequences);
  const auto start = [&]<class X>(X, const auto& kernel, auto... scratch) {
    kernel(stream_, kernels::AttentionInputs<X>{q.as<X>(), k.as<X>(), v.as<X>()}, shape, options, out.as<X>(),
           lse.as<float>(), scratch...);
  };
  switch (attention_way(q.dtype, shape, kernels::runs_hopper_tiles())) {
    case AttentionWay::hopper:
      return start(bf16{}, kernels::attention_forward_hopper);
    case AttentionWay::tiles:
      return start(bf16{}, kernels::attention_forward_tiles);
    case AttentionWay::few_queries:
      return start(bf16{}, kernels::attention_forward_few_queries, workspace);
    case AttentionWay::rows:
      return with_type(q.dtype, [&]<class X>(X x) { start(x, kernels::attention_forward_rows<X>, workspace); });
  }
}

void CudaOperations::run_attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                            const Tensor& out, const Tensor& lse, const Sequences& sequences,
                                            const AttentionOptions& options, const Tensor& dq, const Tensor& dk,
                                            const Tensor& dv, void* workspace) {
  const kernels::AttentionShape shape = shape_of(q, k, sequences);
  const auto start = [&]<class X>(X, const auto& kernel) {
    kernel(stream_, kernels::AttentionInputs<X>{q.as<X>(), k.as<X>(), v.as<X>()},
           kernels::AttentionOutputs<X>{dout.as<X>(), out.as<X>(), lse.as<float>()}, shape, options,
           kernels::AttentionGradients<X>{dq.as<X>(), dk.as<X>(), dv.as<X>()}, workspace);
  };
  switch (attention_way(q.dtype, shape, kernels::runs_hopper_tiles())) {
    case AttentionWay::hopper:
      return start(bf16{}, kernels::attention_backward_hopper);
    case AttentionWay::tiles:
      return start(bf16{}, kernels::attention_backward_tiles);
    case AttentionWay::few_queries:
    case AttentionWay::rows:
      return with_type(q.dtype, [&]<class X>(X x) { start(x, kernels::attention_backward_rows<X>); });
  }
}

// ---- feed-forward

void CudaOperations::run_activation_forward(const Tensor& input, const ActivationOptions& options, const Tensor& y) {
  with_type(y.dtype, [&]<class X>(X) {
    kernels::activation_forward(stream_, input.as<X>(), options, y.as<X>(), y.shape[0], y.shape[1]);
  });
}

void CudaOperations::run_activation_backward(const Tensor& dy, const Tensor& input, const ActivationOptions& options) {
  with_type(dy.dtype, [&]<class X>(X) {
    kernels::activation_backward(stream_, dy.as<X>(), input.as<X>(), options, dy.shape[0], dy.shape[1]);
  });
}

// ---- embedding

void CudaOperations::run_embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y) {
  with_type(y.dtype, [&]<class X>(X) {
    kernels::embedding_forward(stream_, ids.as<int32_t>(), table.as<X>(), {first_row, table.shape[0]}, y.as<X>(),
                               ids.shape[0], table.shape[1]);
  });
}

void CudaOperations::run_embedding_backward(const Tensor& ids, const Tensor& dy, int64_t first_row, int64_t skip_id,
                                            const Tensor& dtable, void*) {
  with_type(dy.dtype, [&]<class X>(X) {
    kernels::embedding_backward(stream_, ids.as<int32_t>(), dy.as<X>(), {first_row, dtable.shape[0]}, skip_id,
                                dtable.as<float>(), ids.shape[0], dtable.shape[1]);
  });
}

// ---- loss

void CudaOperations::run_cross_entropy_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column,
                                                  int64_t columns, const Tensor& statistics) {
  kernels::cross_entropy_statistics(stream_, logits.as<float>(), targets.as<int32_t>(),
                                    {first_column, columns, logits.shape[1]}, statistics.as<float>(), logits.shape[0]);
}

void CudaOperations::run_cross_entropy_loss(const Tensor& gathered, const Tensor& targets, const Tensor& lse,
                                            const Tensor& loss) {
  kernels::cross_entropy_loss(stream_, gathered.as<float>(), targets.as<int32_t>(), lse.as<float>(), loss.as<double>(),
                              gathered.shape[0], targets.shape[0]);
}

void CudaOperations::run_cross_entropy_backward(const Tensor& logits, const Tensor& targets, const Tensor& lse,
                                                int64_t first_column, int64_t columns, float scale,
                                                const Tensor& dlogits) {
  with_type(dlogits.dtype, [&]<class X>(X) {
    kernels::cross_entropy_backward(stream_, logits.as<float>(), targets.as<int32_t>(), lse.as<float>(),
                                    {first_column, columns, logits.shape[1]}, scale, dlogits.as<X>(), logits.shape[0]);
  });
}

// ---- generation

void CudaOperations::run_sample(const Tensor& logits, int64_t vocabulary, const Tensor& recent, const Tensor& uniforms,
                                const SamplingOptions& options, const Tensor& ids, const Tensor& chances,
                                void* workspace) {
  kernels::sample(stream_, logits.as<float>(), {logits.shape[0], logits.shape[1], logits.shape[2], vocabulary},
                  recent.as<int32_t>(), uniforms.as<float>(), options, ids.as<int32_t>(), chances.as<double>(),
                  workspace);
}

void CudaOperations::run_feed_choices(const Tensor& ids, const Tensor& next, const Tensor& recent) {
  kernels::feed_choices(stream_, ids.as<int32_t>(), next.as<int32_t>(), recent.as<int32_t>(), ids.shape[0]);
}

// ---- small ones

void CudaOperations::run_add(const Tensor& x, const Tensor& y) {
  with_type(y.dtype, [&]<class X>(X) { kernels::add(stream_, x.as<X>(), y.as<X>(), y.elements()); });
}

void CudaOperations::run_scale(const Tensor& x, float factor, const Tensor& y) {
  with_type(y.dtype, [&]<class X>(X) { kernels::scale(stream_, x.as<const X>(), factor, y.as<X>(), y.elements()); });
}

void CudaOperations::run_zero(const Tensor& x) { kernels::zero(stream_, x.data, x.bytes()); }

void CudaOperations::run_gather_rows(const Tensor& x, const Tensor& rows, const Tensor& y) {
  with_type(y.dtype, [&]<class X>(X) {
    kernels::gather_rows(stream_, x.as<X>(), rows.as<int32_t>(), y.as<X>(), rows.shape[0], x.shape[1]);
  });
}

// ---- optimizer

void CudaOperations::run_add_sum_of_squares(const Tensor& x, const Tensor& result, void* workspace) {
  kernels::add_sum_of_squares(stream_, x.as<float>(), result.as<double>(), x.elements(), workspace);
}

void CudaOperations::run_adamw(const AdamWOptions& options, const OptimizerTensors& tensors,
                               const Tensor& squared_norm) {
  with_type(tensors.w.dtype, [&]<class X>(X) {
    const kernels::OptimizerTensors<X> pointers{tensors.w.as<X>(), tensors.rest.as<int16_t>(),
                                                tensors.gradient.as<float>(), tensors.m.as<float>(),
                                                tensors.v.as<float>()};
    kernels::adamw(stream_, options, pointers, squared_norm.as<double>(), tensors.w.elements());
  });
}

}  // namespace llama_tp
