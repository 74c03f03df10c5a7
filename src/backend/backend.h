// The list of operations: the table of contents of the mathematics. Each has one front here that checks shapes, counts
// FLOPs and bytes and takes scratch memory from the workspace arena, then makes one virtual call. cpu/ (and cuda/)
// implement the calls; in meta.h they do nothing, so that a rehearsal is the same path with the work left out.
//
// Letters in shapes: T tokens, H hidden, A heads of this rank, G key/value heads of this rank, D head size, F
// feed-forward width of this rank, V vocabulary rows of this rank, C rows of a key/value cache (C = T in training). "x"
// is the activation type of the run: f32 or bf16. Activations and weights have type x, gradients of weights are f32,
// all sums run in f32. Tensors are dense and row-major. A violated shape or type is an Error (a bug of the caller).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "backend/arena.h"
#include "backend/device_handle.h"
#include "backend/tensor.h"
#include "base/operation_options.h"

namespace llama_tp {

// The norms of the heads of q and k (Qwen3), for A heads of q in packed qkv.
struct HeadNorms {
  Tensor q, k;        // [D] of type x
  int64_t heads = 0;  // A
  float epsilon = 1e-6f;
};

// The sequences in a flat run of tokens. A row of `ranges` (i32): {first query, queries Q, first key row, keys K}. Queries
// ascend from token 0 and belong to one sequence each; in a backward keys do, too. Causal from the end: query i of Q sees
// keys 0 … K − Q + i. The rest is known on the host without reading `ranges`.
struct Sequences {
  Tensor ranges;              // [n, 4]
  int64_t count = 0;          // the first of them; those behind are empty
  int64_t longest_query = 0;  // the largest Q
  int64_t longest_key = 0;    // the largest K
  // Of a query and a key that it sees, summed over the sequences (for counting FLOPs): without and with a window.
  int64_t pairs = 0, windowed_pairs = 0;
  double pairs_of(const AttentionOptions& options) const {
    return static_cast<double>(options.window > 0 ? windowed_pairs : pairs);
  }
};

// [T] or [T, 2]: what a norm keeps of T tokens for its backward.
inline Shape statistics_shape(const NormOptions& options, int64_t tokens) {
  return options.kind.centers ? Shape{tokens, 2} : Shape{tokens};
}

// What an optimizer updates, all of one size. f32: w is the weight, rest is absent. bf16: w (bf16) and rest (i16)
// together are the f32 master weight, exactly: bits(master) = (bits(w) << 16) + rest, w = master rounded half up, so
// that rest fits 16 signed bits. gradient, m, v: f32.
struct OptimizerTensors {
  Tensor w, rest, gradient, m, v;
};

enum class Operation : uint8_t {
  linear_forward,
  linear_backward_input,
  linear_backward_weight,
  bias_backward,
  norm_forward,
  add_norm_forward,
  norm_apply,
  norm_backward,
  head_norm_forward,
  head_norm_backward,
  rope_table,
  rope_forward,
  rope_backward,
  attention_forward,
  attention_backward,
  activation_forward,
  activation_backward,
  embedding_forward,
  embedding_backward,
  cross_entropy_statistics,
  cross_entropy_loss,
  cross_entropy_backward,
  sample,
  feed_choices,
  add,
  scale,
  zero,
  gather_rows,
  add_sum_of_squares,
  adamw,
  count_
};
std::string_view name_of(Operation operation);

// Calls of an operation since the backend was made, with the arithmetic and the least traffic to memory that they
// imply.
struct Work {
  int64_t calls = 0;
  double flops = 0, bytes = 0;
};

class Delivery;
class ProductTuner;
class Recorder;

// The loss goes through its tokens in pieces, whose f32 logits are made and used up one after another, and in chunks of
// pieces, whose gradients of logits are multiplied together.
struct LossTokens {
  int64_t piece, chunk;
};

constexpr int64_t most_token_parts = 4;  // of a product whose results ranks exchange part by part

class Backend {
 public:
  virtual ~Backend() = default;

  // ---- matrix products

  // y[T, N] = x[T, K] · w[N, K]ᵀ + bias[N]; 2·T·N·K FLOP. y: type x, or f32 (logits). bias: type x, may be absent.
  void linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y);
  // dx[T, K] = dy[T, N] · w[N, K]
  void linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx);
  // dw[N, K] += dy[T, N]ᵀ · x[T, K], f32.
  void linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw);
  // db[N] += Σ_t dy[t], f32.
  void bias_backward(const Tensor& dy, const Tensor& db);

  // ---- normalization

  // y = (x − mean) / sqrt(var + ε) · (offset + w) + b, or y = x / sqrt(mean(x²) + ε) · (offset + w), by the NormKind.
  // x, y: [T, H]; w, b: [H] of type x, b may be absent. statistics, kept for backward: [T] f32 of 1/rms, or [T, 2] f32
  // of mean and 1/deviation.
  void norm_forward(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options, const Tensor& y,
                    const Tensor& statistics);
  // sum = residual + part; y = norm(sum). sum may be residual itself.
  void add_norm_forward(const Tensor& part, const Tensor& residual, const Tensor& w, const Tensor& b,
                        const NormOptions& options, const Tensor& sum, const Tensor& y, const Tensor& statistics);
  // y again from x and the saved statistics, bitwise what norm_forward gave.
  void norm_apply(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                  const Tensor& statistics, const Tensor& y);
  // dx += dnorm/dx · dy; dw += …; db += …. dx: [T, H] of type x, which holds the residual's gradient already; dw, db:
  // [H] f32.
  void norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w, const NormOptions& options,
                     const Tensor& statistics, const Tensor& dx, const Tensor& dw, const Tensor& db);

  // ---- a norm on each head of q and k before they rotate (Henry et al. 2020)

  // y = packed qkv [T, (A + 2G)·D] in which each head x of q or k is x / sqrt(mean(x²) + ε) · w, w: norms.q or norms.k;
  // v is copied. y may be qkv itself.
  void head_norm_forward(const Tensor& qkv, const HeadNorms& norms, const Tensor& y);
  // dqkv, the gradient of y, is turned into that of qkv in its place; dq, dk += those of the weights ([D] f32). 1/rms
  // is computed again from qkv.
  void head_norm_backward(const Tensor& qkv, const HeadNorms& norms, const Tensor& dqkv, const Tensor& dq,
                          const Tensor& dk);

  // ---- rotary positions (Su et al. 2021, in Hugging Face's half-split layout)

  // table[t] = scale · {cos(p_t f_0) … cos(p_t f_{R/2−1}), sin(p_t f_0) … sin(p_t f_{R/2−1})}
  // positions p: [T] i32; frequencies f: [R/2] f32, radians a position; table: [T, R] f32. R ≤ D: only the first R
  // elements of each head rotate.
  void rope_table(const Tensor& positions, const Tensor& frequencies, float scale, const Tensor& table);
  // Takes packed qkv [T, (A + 2G)·D] apart, rotates q and k (by a table of R = 0 nothing), and lays them out head by head:
  // q: [A, T, D]; k, v: [G, C, D], token t written to row slots[t] (i32 [T]).
  void rope_forward(const Tensor& qkv, const Tensor& table, const Tensor& slots, const Tensor& q, const Tensor& k,
                    const Tensor& v);
  // The conjugate: dq [A, T, D], dk, dv [G, T, D] rotated back and packed into dqkv [T, (A + 2G)·D].
  void rope_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& table, const Tensor& dqkv);

  // ---- attention (grouped queries: Ainslie et al. 2023)

  // out[t, a·D …] = Σ_j softmax_j(scale · q[a, t] · k[a·G/A, j]) v[a·G/A, j]
  // q: [A, T, D]; k, v: [G, C, D]; out: [T, A·D]; lse: [A, T] f32, log Σ exp, kept for backward, absent in generation.
  void attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences,
                         const AttentionOptions& options, const Tensor& out, const Tensor& lse);
  // dq [A, T, D], dk, dv [G, T, D] (written). Probabilities are computed again from lse (Dao 2023). C = T here.
  void attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                          const Tensor& lse, const Sequences& sequences, const AttentionOptions& options,
                          const Tensor& dq, const Tensor& dk, const Tensor& dv);

  // ---- feed-forward (gated: Shazeer 2020)

  // gated: input [T, 2F] (gate, then up), y[T, F] = act(gate) · up; else input [T, F], y = act(input).
  void activation_forward(const Tensor& input, const ActivationOptions& options, const Tensor& y);
  // Both in place: input becomes its gradient, and dy becomes y, the same bits as forward's, which the gradient of the
  // weight behind it needs: so y is kept nowhere.
  void activation_backward(const Tensor& dy, const Tensor& input, const ActivationOptions& options);

  // ---- embedding (vocabulary split over ranks: this one holds rows first_row … first_row + V − 1)

  // y[t] = table[ids[t] − first_row], or 0 where another rank holds the row. ids: [T] i32; table: [V, H]; y: [T, H].
  void embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y);
  // dtable[ids[t] − first_row] += dy[t], in the order of t. dtable: [V, H] f32. The row of skip_id gets nothing (torch's
  // padding_idx; −1: none).
  void embedding_backward(const Tensor& ids, const Tensor& dy, int64_t first_row, int64_t skip_id,
                          const Tensor& dtable);

  // ---- loss (vocabulary split over ranks: Shoeybi et al. 2019)

  // statistics[t] = {max, Σ exp(logit − max), the target's logit or −inf where another rank holds it}: [T, 3] f32;
  // {−inf, 0, −inf} if columns = 0. logits: [T, V] f32, of which the first `columns` exist (the rest pads the
  // vocabulary); targets: [T] i32 global ids, −100 ignored.
  void cross_entropy_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column, int64_t columns,
                                const Tensor& statistics);
  // lse[t] = {m, log Σ exp(logit − m)} over the whole vocabulary with m, its largest logit (0 where all are −inf): apart,
  // since their sum would round away what a target of probability near 1 loses. loss[0] += Σ_t of both less the target's
  // logit, over targets that are not ignored. gathered: [ranks, T, 3] f32, in rank order; lse: [T, 2] f32; loss: [1] f64.
  void cross_entropy_loss(const Tensor& gathered, const Tensor& targets, const Tensor& lse, const Tensor& loss);
  // dlogits = (softmax(logits) − onehot(target)) · scale; 0 in ignored rows and padded columns. dlogits: [T, V] type x;
  // may be logits itself (f32).
  void cross_entropy_backward(const Tensor& logits, const Tensor& targets, const Tensor& lse, int64_t first_column,
                              int64_t columns, float scale, const Tensor& dlogits);

  // ---- generation

  // ids[i] = the token that is chosen from the logits i: of its candidates in falling order the first at which the sum of
  // probabilities exceeds uniforms[i]; −1 where a logit is not finite. chances[i] = {logit − largest, Σ exp(logit −
  // largest)}, the chosen one's and over all, before the penalty; absent, or without meaning where there is no choice.
  // The choice is the same, bit for bit, on every backend (base/sampling.h).
  // logits: [ranks, n, V] f32, in rank order, of which the first `vocabulary` exist; recent: [n, 64] i32, what the
  // penalty is on, −1 for none; uniforms: [n] f32 in [0, 1); ids: [n] i32; chances: [n, 2] f64.
  void sample(const Tensor& logits, int64_t vocabulary, const Tensor& recent, const Tensor& uniforms,
              const SamplingOptions& options, const Tensor& ids, const Tensor& chances);
  // What was chosen becomes what the next forward reads, without the host: next[i] = ids[i], and it is the newest of
  // what the penalty is on, recent[i, 63] = ids[i]. ids, next: [n] i32; recent: [n, 64] i32.
  void feed_choices(const Tensor& ids, const Tensor& next, const Tensor& recent);

  // ---- small ones

  // y += x
  void add(const Tensor& x, const Tensor& y);
  // y = factor · x, rounded once. x, y: of one type, f32 or bf16; y may be x.
  void scale(const Tensor& x, float factor, const Tensor& y);
  void zero(const Tensor& x);
  // y[i] = x[rows[i]]. rows: [n] i32; y: [n, H].
  void gather_rows(const Tensor& x, const Tensor& rows, const Tensor& y);

  // ---- optimizer

  // result[0] += Σ x², in an order that depends on x's size alone. x: f32; result: [1] f64.
  void add_sum_of_squares(const Tensor& x, const Tensor& result);
  // One AdamW step (Loshchilov & Hutter 2019) in torch's order of operations, then gradient = 0. The gradient is first
  // scaled by min(1, max_grad_norm / (sqrt(squared_norm[0]) + 1e-6)), unless max_grad_norm is 0. squared_norm: [1] f64.
  void adamw(const AdamWOptions& options, const OptimizerTensors& tensors, const Tensor& squared_norm);

  // ---- memory and the host

  // Memory of zeros. Errors: there is no such amount.
  virtual void* reserve(int64_t bytes) = 0;
  virtual void release(void* base, int64_t bytes) = 0;
  // Bytes that reserve can still give; the most there is where nobody knows.
  virtual int64_t free_memory() const { return std::numeric_limits<int64_t>::max(); }
  // Bytes of the device's own memory that are in use, by whomever, as its driver counts them; 0 where it has none.
  virtual int64_t memory_in_use() const { return 0; }
  // Copies between host memory of the tensor's own type and the tensor, which nothing else on the host may touch.
  // download waits for what was asked before; after upload host may change.
  virtual void upload(const void* host, const Tensor& tensor) = 0;
  virtual void download(const Tensor& tensor, void* host) = 0;
  // A delivery of tensors of at most so many bytes.
  virtual std::unique_ptr<Delivery> make_delivery(int64_t bytes);
  // True if tensors are host memory that files can be read into; else use upload().
  virtual bool is_host() const { return false; }
  // Waits for all that was asked.
  virtual void synchronize() = 0;
  // Where operations run behind the host's back; null: they have ended when they return.
  virtual DeviceHandle* device() { return nullptr; }
  // What repeats operations without the host's time for each; null: there is nothing to gain.
  virtual Recorder* recorder() { return nullptr; }
  // Where products can be computed by several algorithms; null: there is nothing to choose.
  virtual ProductTuner* product_tuner() { return nullptr; }
  // What suits this device. columns: of the logits of this rank; gradients: the type of theirs.
  virtual LossTokens loss_tokens(int64_t columns, DType gradients) const = 0;
  // In how many parts, at most most_token_parts, the tokens of a product go of which the ranks exchange so many bytes, so
  // that one part is exchanged beside the product of another; 1: nothing runs beside anything, or it is not worth while.
  virtual int64_t token_parts(int64_t tokens, int64_t bytes) const = 0;
  // Bytes a second that this rank reads from its memory, measured in a fraction of a second, or after two passes in so
  // many; 0 where it has no room.
  virtual double read_bandwidth(double most_seconds) = 0;
  // "cpu: 2 threads, AVX512-BF16 …": one line for the user.
  virtual std::string description() const = 0;

  const Work& work(Operation operation) const { return work_[static_cast<size_t>(operation)]; }

  // Bytes of scratch that an operation needs, from shapes alone. Asking also prepares it (oneDNN makes its primitive),
  // so that no step does.
  virtual int64_t linear_forward_workspace(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) = 0;
  virtual int64_t linear_backward_input_workspace(const Tensor& dy, const Tensor& w, const Tensor& dx) = 0;
  virtual int64_t linear_backward_weight_workspace(const Tensor& dy, const Tensor& x, const Tensor& dw) = 0;
  virtual int64_t bias_backward_workspace(const Tensor& dy, const Tensor& db) = 0;
  virtual int64_t norm_backward_workspace(const Tensor& dy, const NormOptions& options) = 0;
  virtual int64_t head_norm_backward_workspace(const Tensor& qkv, const HeadNorms& norms) = 0;
  virtual int64_t attention_forward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) = 0;
  virtual int64_t attention_backward_workspace(const Tensor& q, const Tensor& k, const Sequences& sequences) = 0;
  virtual int64_t embedding_backward_workspace(const Tensor& ids, const Tensor& dtable) = 0;
  virtual int64_t sample_workspace(const Tensor& logits) = 0;
  virtual int64_t add_sum_of_squares_workspace(const Tensor& x) = 0;

 protected:
  virtual void run_linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y,
                                  void* workspace) = 0;
  virtual void run_linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx, void* workspace) = 0;
  virtual void run_linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw, void* workspace) = 0;
  virtual void run_bias_backward(const Tensor& dy, const Tensor& db, void* workspace) = 0;
  virtual void run_norm_forward(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                                const Tensor& y, const Tensor& statistics) = 0;
  virtual void run_add_norm_forward(const Tensor& part, const Tensor& residual, const Tensor& w, const Tensor& b,
                                    const NormOptions& options, const Tensor& sum, const Tensor& y,
                                    const Tensor& statistics) = 0;
  virtual void run_norm_apply(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                              const Tensor& statistics, const Tensor& y) = 0;
  virtual void run_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w, const NormOptions& options,
                                 const Tensor& statistics, const Tensor& dx, const Tensor& dw, const Tensor& db,
                                 void* workspace) = 0;
  virtual void run_head_norm_forward(const Tensor& qkv, const HeadNorms& norms, const Tensor& y) = 0;
  virtual void run_head_norm_backward(const Tensor& qkv, const HeadNorms& norms, const Tensor& dqkv, const Tensor& dq,
                                      const Tensor& dk, void* workspace) = 0;
  virtual void run_rope_table(const Tensor& positions, const Tensor& frequencies, float scale, const Tensor& table) = 0;
  virtual void run_rope_forward(const Tensor& qkv, const Tensor& table, const Tensor& slots, const Tensor& q,
                                const Tensor& k, const Tensor& v) = 0;
  virtual void run_rope_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& table,
                                 const Tensor& dqkv) = 0;
  virtual void run_attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences,
                                     const AttentionOptions& options, const Tensor& out, const Tensor& lse,
                                     void* workspace) = 0;
  virtual void run_attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                      const Tensor& out, const Tensor& lse, const Sequences& sequences,
                                      const AttentionOptions& options, const Tensor& dq, const Tensor& dk,
                                      const Tensor& dv, void* workspace) = 0;
  virtual void run_activation_forward(const Tensor& input, const ActivationOptions& options, const Tensor& y) = 0;
  virtual void run_activation_backward(const Tensor& dy, const Tensor& input, const ActivationOptions& options) = 0;
  virtual void run_embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y) = 0;
  virtual void run_embedding_backward(const Tensor& ids, const Tensor& dy, int64_t first_row, int64_t skip_id,
                                      const Tensor& dtable, void* workspace) = 0;
  virtual void run_cross_entropy_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column,
                                            int64_t columns, const Tensor& statistics) = 0;
  virtual void run_cross_entropy_loss(const Tensor& gathered, const Tensor& targets, const Tensor& lse,
                                      const Tensor& loss) = 0;
  virtual void run_cross_entropy_backward(const Tensor& logits, const Tensor& targets, const Tensor& lse,
                                          int64_t first_column, int64_t columns, float scale,
                                          const Tensor& dlogits) = 0;
  virtual void run_sample(const Tensor& logits, int64_t vocabulary, const Tensor& recent, const Tensor& uniforms,
                          const SamplingOptions& options, const Tensor& ids, const Tensor& chances,
                          void* workspace) = 0;
  virtual void run_feed_choices(const Tensor& ids, const Tensor& next, const Tensor& recent) = 0;
  virtual void run_add(const Tensor& x, const Tensor& y) = 0;
  virtual void run_scale(const Tensor& x, float factor, const Tensor& y) = 0;
  virtual void run_zero(const Tensor& x) = 0;
  virtual void run_gather_rows(const Tensor& x, const Tensor& rows, const Tensor& y) = 0;
  virtual void run_add_sum_of_squares(const Tensor& x, const Tensor& result, void* workspace) = 0;
  virtual void run_adamw(const AdamWOptions& options, const OptimizerTensors& tensors, const Tensor& squared_norm) = 0;

 private:
  friend class Workspace;
  void count(Operation operation, double flops, double bytes);
  Tensor scratch(Frame& frame, int64_t bytes) const;

  Arena* workspace_ = nullptr;
  std::array<Work, static_cast<size_t>(Operation::count_)> work_{};
};

// While it lives, a backend's operations take scratch memory from this arena. Errors: they do so from another one.
class Workspace {
 public:
  Workspace(Backend& backend, Arena& arena);
  ~Workspace() { backend_.workspace_ = nullptr; }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

 private:
  Backend& backend_;
};

}  // namespace llama_tp
