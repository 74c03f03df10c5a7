// The hand-written CUDA kernels, as the functions that start them: for the operations of backend/backend.h with the
// same letters, formulas and orders of summation; each kernel's file has the operation's name and says more. Pointers
// are to device memory, dense and row-major, aligned to 16 bytes; X is float or bf16. A call returns when the kernel is
// in the stream. Errors: sizes that a kernel does not know, and what CUDA reports at the start. workspace: as many bytes
// as workspace.h says.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/operation_options.h"
#include "kernels/stream.h"

namespace llama_tp::kernels {

// ---- activation.cu: input [tokens, 2 width] or [tokens, width]

template <class X>
void activation_forward(Stream stream, const X* input, const ActivationOptions& options, X* y, int64_t tokens,
                        int64_t width);
// In place: dy becomes y, input its gradient.
template <class X>
void activation_backward(Stream stream, X* dy, X* input, const ActivationOptions& options, int64_t tokens,
                         int64_t width);

// ---- norm.cu, norm_backward.cu: rows [tokens, hidden]; b may be null

template <class X>
struct NormWeights {
  const X *w, *b;
  NormOptions options;
};
// y = norm(x), or with a part: sum = x + part, y = norm(sum); sum may be x.
template <class X>
void norm_forward(Stream stream, const X* x, const NormWeights<X>& weights, X* y, float* statistics, int64_t tokens,
                  int64_t hidden);
template <class X>
void add_norm_forward(Stream stream, const X* x, const X* part, const NormWeights<X>& weights, X* sum, X* y,
                      float* statistics, int64_t tokens, int64_t hidden);
template <class X>
void norm_apply(Stream stream, const X* x, const NormWeights<X>& weights, const float* statistics, X* y, int64_t tokens,
                int64_t hidden);

template <class X>
struct NormGradients {
  X* dx;
  float *dw, *db;  // db may be null
};
template <class X>
void norm_backward(Stream stream, const X* dy, const X* x, const NormWeights<X>& weights, const float* statistics,
                   const NormGradients<X>& gradients, int64_t tokens, int64_t hidden, void* workspace);

// ---- head_norm.cu: the heads of q and k in qkv [tokens, (heads + 2 kv_heads) · head_dim]

struct HeadNormShape {
  int64_t heads, kv_heads, head_dim;
  float epsilon;
};
template <class X>
struct HeadNormWeights {
  const X *q, *k;
};
// y may be qkv.
template <class X>
void head_norm_forward(Stream stream, const X* qkv, const HeadNormWeights<X>& weights, const HeadNormShape& shape, X* y,
                       int64_t tokens);
// dqkv: the gradient of y, turned into that of qkv.
template <class X>
void head_norm_backward(Stream stream, const X* qkv, const HeadNormWeights<X>& weights, const HeadNormShape& shape,
                        X* dqkv, float* dq, float* dk, int64_t tokens, void* workspace);

// ---- rope.cu

struct RopeShape {
  int64_t heads, kv_heads, head_dim, rotary_dim;  // rotary_dim: R
  int64_t tokens, cache;                          // rows of q, and of k and v
};
void rope_table(Stream stream, const int32_t* positions, const float* frequencies, float scale, float* table,
                int64_t tokens, int64_t pairs);
template <class X>
void rope_forward(Stream stream, const X* qkv, const float* table, const int32_t* slots, const RopeShape& shape, X* q,
                  X* k, X* v);
template <class X>
void rope_backward(Stream stream, const X* dq, const X* dk, const X* dv, const float* table, const RopeShape& shape,
                   X* dqkv);

// ---- attention

struct AttentionShape {
  int64_t heads, kv_heads, head_dim;
  int64_t tokens, cache;  // rows of q, and of k and v
  // backend.h's Sequences
  const int32_t* ranges;
  int64_t sequences, longest_query, longest_key;
};
template <class X>
struct AttentionInputs {
  const X *q, *k, *v;
};

// What forward gave, and the gradient of its out.
template <class X>
struct AttentionOutputs {
  const X *dout, *out;
  const float* lse;
};
template <class X>
struct AttentionGradients {
  X *dq, *dk, *dv;
};

// Each starts the kernels of its own file, and attention_way in backend/cuda/shapes.h says whose run. lse may be null in
// forward.

// attention_forward.cu, attention_backward.cu: on tensor cores, in tiles, bf16 alone.
constexpr bool has_tiles(int64_t head_dim) {
  return head_dim == 16 || head_dim == 32 || head_dim == 64 || head_dim == 80 || head_dim == 96 || head_dim == 128;
}
void attention_forward_tiles(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                             const AttentionOptions& options, bf16* out, float* lse);
void attention_backward_tiles(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionOutputs<bf16>& outputs,
                              const AttentionShape& shape, const AttentionOptions& options,
                              const AttentionGradients<bf16>& gradients, void* workspace);

// attention_forward_hopper.cu, attention_backward_hopper.cu: in tiles by Hopper's own instructions, bf16 alone. There is
// a token and a key: where there are no rows nothing can be mapped for their copies.
constexpr bool has_hopper_tiles(int64_t head_dim) { return head_dim == 64 || head_dim == 128; }
// Whether this GPU has these instructions, and the program was built for them.
bool runs_hopper_tiles();
void attention_forward_hopper(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                              const AttentionOptions& options, bf16* out, float* lse);
void attention_backward_hopper(Stream stream, const AttentionInputs<bf16>& inputs,
                               const AttentionOutputs<bf16>& outputs, const AttentionShape& shape,
                               const AttentionOptions& options, const AttentionGradients<bf16>& gradients,
                               void* workspace);

// attention_few_queries.cu: a warp a query of up to eight heads, on tensor cores, bf16 alone; forward alone. When
// decoding the keys of one query are split over warps.
constexpr bool has_few_queries(int64_t head_dim) { return head_dim == 64 || head_dim == 128; }
void attention_forward_few_queries(Stream stream, const AttentionInputs<bf16>& inputs, const AttentionShape& shape,
                                   const AttentionOptions& options, bf16* out, float* lse, void* workspace);

// attention_rows.cu, attention_rows_backward.cu: a warp a query, any head size up to 256, either type; split as above.
template <class X>
void attention_forward_rows(Stream stream, const AttentionInputs<X>& inputs, const AttentionShape& shape,
                            const AttentionOptions& options, X* out, float* lse, void* workspace);
template <class X>
void attention_backward_rows(Stream stream, const AttentionInputs<X>& inputs, const AttentionOutputs<X>& outputs,
                             const AttentionShape& shape, const AttentionOptions& options,
                             const AttentionGradients<X>& gradients, void* workspace);

// ---- embedding.cu

struct EmbeddingRows {
  int64_t first_row, rows;  // of the table, that this rank holds
};
template <class X>
void embedding_forward(Stream stream, const int32_t* ids, const X* table, const EmbeddingRows& rows, X* y,
                       int64_t tokens, int64_t hidden);
template <class X>
void embedding_backward(Stream stream, const int32_t* ids, const X* dy, const EmbeddingRows& rows, int64_t skip_id,
                        float* dtable, int64_t tokens, int64_t hidden);

// ---- cross_entropy.cu

struct LogitColumns {
  int64_t first_column, columns, stride;  // columns exist of stride
};
void cross_entropy_statistics(Stream stream, const float* logits, const int32_t* targets, const LogitColumns& columns,
                              float* statistics, int64_t tokens);
void cross_entropy_loss(Stream stream, const float* gathered, const int32_t* targets, float* lse, double* loss,
                        int64_t ranks, int64_t tokens);
// dlogits may be logits.
template <class X>
void cross_entropy_backward(Stream stream, const float* logits, const int32_t* targets, const float* lse,
                            const LogitColumns& columns, float scale, X* dlogits, int64_t tokens);

// ---- sample.cu, likeliest.cu

struct SampleShape {
  int64_t ranks, sequences, columns;  // of logits
  int64_t vocabulary;                 // of the ranks · columns logits of a sequence those that exist
};
// logits are changed and changed back; chances may be null.
void sample(Stream stream, float* logits, const SampleShape& shape, const int32_t* recent, const float* uniforms,
            const SamplingOptions& options, int32_t* ids, double* chances, void* workspace);

// ---- elementwise.cu, sums.cu

template <class X>
void add(Stream stream, const X* x, X* y, int64_t n);
// y may be x.
template <class X>
void scale(Stream stream, const X* x, float factor, X* y, int64_t n);
void zero(Stream stream, void* x, int64_t bytes);
template <class X>
void gather_rows(Stream stream, const X* x, const int32_t* rows, X* y, int64_t n, int64_t hidden);
void feed_choices(Stream stream, const int32_t* ids, int32_t* next, int32_t* recent, int64_t n);
// db[width] += Σ_t dy[t]
template <class X>
void bias_backward(Stream stream, const X* dy, float* db, int64_t tokens, int64_t width);

void add_sum_of_squares(Stream stream, const float* x, double* result, int64_t n, void* workspace);

// ---- adamw.cu: rest is null for float

template <class X>
struct OptimizerTensors {
  X* w;
  int16_t* rest;
  float *gradient, *m, *v;
};
template <class X>
void adamw(Stream stream, const AdamWOptions& options, const OptimizerTensors<X>& tensors, const double* squared_norm,
           int64_t n);

// ---- matrix_vector.cu: y[tokens, n] = x[tokens, k] · w[n, k]ᵀ + bias[n] for few tokens; bias may be null

constexpr int64_t few_tokens = 8;
template <class X, class Y>
void matrix_vector(Stream stream, const X* x, const X* w, const X* bias, Y* y, int64_t tokens, int64_t n, int64_t k);
// matrix_few_tokens.cu: what matrix_vector starts where tensor cores are worth it. k % 8 == 0, x and w 16-byte aligned.
template <class Y>
void matrix_few_tokens(Stream stream, const bf16* x, const bf16* w, const bf16* bias, Y* y, int64_t tokens, int64_t n,
                       int64_t k);

}  // namespace llama_tp::kernels
