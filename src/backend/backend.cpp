// The checks and counts of a block's operations.
#include "backend/backend.h"

#include "backend/checks.h"
#include "backend/delivery.h"

namespace llama_tp {

std::string_view name_of(Operation operation) {
  static constexpr std::array<std::string_view, static_cast<size_t>(Operation::count_)> names{
      "linear_forward",
      "linear_backward_input",
      "linear_backward_weight",
      "bias_backward",
      "norm_forward",
      "add_norm_forward",
      "norm_apply",
      "norm_backward",
      "head_norm_forward",
      "head_norm_backward",
      "rope_table",
      "rope_forward",
      "rope_backward",
      "attention_forward",
      "attention_backward",
      "activation_forward",
      "activation_backward",
      "embedding_forward",
      "embedding_backward",
      "cross_entropy_statistics",
      "cross_entropy_loss",
      "cross_entropy_backward",
      "sample",
      "feed_choices",
      "add",
      "scale",
      "zero",
      "gather_rows",
      "add_sum_of_squares",
      "adamw"};
  static_assert(!names.back().empty(), "a name for each");
  return names[static_cast<size_t>(operation)];
}

void Backend::count(Operation operation, double flops, double bytes) {
  Work& work = work_[static_cast<size_t>(operation)];
  work.calls++;
  work.flops += flops;
  work.bytes += bytes;
}

Workspace::Workspace(Backend& backend, Arena& arena) : backend_(backend) {
  require(backend.workspace_ == nullptr, "a second runtime on one device (", backend.description(),
          "), whose scratch memory is the first one's; end that one before");
  backend.workspace_ = &arena;
}

Tensor Backend::scratch(Frame& frame, int64_t bytes) const {
  return bytes > 0 ? frame.take(Category::workspace, {bytes}, DType::u8) : Tensor{};
}

std::unique_ptr<Delivery> Backend::make_delivery(int64_t bytes) { return std::make_unique<Download>(*this, bytes); }

// ---- matrix products

void Backend::linear_forward(const Tensor& x, const Tensor& w, const Tensor& bias, const Tensor& y) {
  constexpr auto op = Operation::linear_forward;
  expect(x.shape.rank() == 2 && w.shape.rank() == 2 && x.shape[1] == w.shape[1], op, "x is [T, K], w [N, K]");
  expect(is_matrix(y, x.shape[0], w.shape[0]), op, "y is [T, N]");
  expect(is_activation(x.dtype) && w.dtype == x.dtype && (y.dtype == x.dtype || y.dtype == DType::f32), op, "types");
  expect(!bias.exists() || (bias.shape == Shape{w.shape[0]} && bias.dtype == x.dtype), op, "bias is [N] of x's type");
  count(op, 2 * elements_of(x) * static_cast<double>(w.shape[0]), bytes_of({&x, &w, &y}));
  Frame frame(*workspace_);
  run_linear_forward(x, w, bias, y, scratch(frame, linear_forward_workspace(x, w, bias, y)).data);
}

void Backend::linear_backward_input(const Tensor& dy, const Tensor& w, const Tensor& dx) {
  constexpr auto op = Operation::linear_backward_input;
  expect(dy.shape.rank() == 2 && w.shape.rank() == 2 && dy.shape[1] == w.shape[0], op, "dy is [T, N], w [N, K]");
  expect(is_matrix(dx, dy.shape[0], w.shape[1]), op, "dx is [T, K]");
  expect(is_activation(dy.dtype) && w.dtype == dy.dtype && dx.dtype == dy.dtype, op, "one type");
  count(op, 2 * elements_of(dy) * static_cast<double>(w.shape[1]), bytes_of({&dy, &w, &dx}));
  Frame frame(*workspace_);
  run_linear_backward_input(dy, w, dx, scratch(frame, linear_backward_input_workspace(dy, w, dx)).data);
}

void Backend::linear_backward_weight(const Tensor& dy, const Tensor& x, const Tensor& dw) {
  constexpr auto op = Operation::linear_backward_weight;
  expect(dy.shape.rank() == 2 && x.shape.rank() == 2 && dy.shape[0] == x.shape[0], op, "dy is [T, N], x [T, K]");
  expect(is_matrix(dw, dy.shape[1], x.shape[1]), op, "dw is [N, K]");
  expect(is_activation(dy.dtype) && x.dtype == dy.dtype && dw.dtype == DType::f32, op, "types");
  count(op, 2 * elements_of(dy) * static_cast<double>(x.shape[1]), bytes_of({&dy, &x, &dw, &dw}));
  Frame frame(*workspace_);
  run_linear_backward_weight(dy, x, dw, scratch(frame, linear_backward_weight_workspace(dy, x, dw)).data);
}

void Backend::bias_backward(const Tensor& dy, const Tensor& db) {
  constexpr auto op = Operation::bias_backward;
  expect(dy.shape.rank() == 2 && is_activation(dy.dtype), op, "dy is [T, N]");
  expect(db.shape == Shape{dy.shape[1]} && db.dtype == DType::f32, op, "db is [N] f32");
  count(op, elements_of(dy), bytes_of({&dy, &db, &db}));
  Frame frame(*workspace_);
  run_bias_backward(dy, db, scratch(frame, bias_backward_workspace(dy, db)).data);
}

// ---- normalization

namespace {
void expect_norm(Operation op, const Tensor& x, const Tensor& w, const Tensor& b) {
  expect(x.shape.rank() == 2 && w.shape == Shape{x.shape[1]}, op, "rows are [T, H], w [H]");
  expect(is_activation(x.dtype) && w.dtype == x.dtype, op, "one type");
  expect(!b.exists() || is_like(b, w), op, "b is like w");
}

void expect_statistics(Operation op, const Tensor& statistics, const NormOptions& options, const Tensor& x) {
  expect(statistics.shape == statistics_shape(options, x.shape[0]) && statistics.dtype == DType::f32, op, "statistics");
}
}  // namespace

void Backend::norm_forward(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                           const Tensor& y, const Tensor& statistics) {
  constexpr auto op = Operation::norm_forward;
  expect_norm(op, x, w, b);
  expect(is_like(y, x), op, "y is like x");
  expect_statistics(op, statistics, options, x);
  count(op, 4 * elements_of(x), bytes_of({&x, &y, &w}));
  run_norm_forward(x, w, b, options, y, statistics);
}

void Backend::add_norm_forward(const Tensor& part, const Tensor& residual, const Tensor& w, const Tensor& b,
                               const NormOptions& options, const Tensor& sum, const Tensor& y,
                               const Tensor& statistics) {
  constexpr auto op = Operation::add_norm_forward;
  expect_norm(op, part, w, b);
  expect(is_like(residual, part) && is_like(sum, part) && is_like(y, part), op, "residual, sum and y are like part");
  expect_statistics(op, statistics, options, part);
  count(op, 5 * elements_of(part), bytes_of({&part, &residual, &sum, &y, &w}));
  run_add_norm_forward(part, residual, w, b, options, sum, y, statistics);
}

void Backend::norm_apply(const Tensor& x, const Tensor& w, const Tensor& b, const NormOptions& options,
                         const Tensor& statistics, const Tensor& y) {
  constexpr auto op = Operation::norm_apply;
  expect_norm(op, x, w, b);
  expect(is_like(y, x), op, "y is like x");
  expect_statistics(op, statistics, options, x);
  count(op, 2 * elements_of(x), bytes_of({&x, &y, &w}));
  run_norm_apply(x, w, b, options, statistics, y);
}

void Backend::norm_backward(const Tensor& dy, const Tensor& x, const Tensor& w, const NormOptions& options,
                            const Tensor& statistics, const Tensor& dx, const Tensor& dw, const Tensor& db) {
  constexpr auto op = Operation::norm_backward;
  expect_norm(op, x, w, {});
  expect(is_like(dy, x) && is_like(dx, x), op, "dy and dx are like x");
  expect(dw.shape == w.shape && dw.dtype == DType::f32 && (!db.exists() || is_like(db, dw)), op, "dw, db are [H] f32");
  expect_statistics(op, statistics, options, x);
  count(op, 8 * elements_of(x), bytes_of({&dy, &x, &dx, &dx, &w, &dw, &dw}));
  Frame frame(*workspace_);
  run_norm_backward(dy, x, w, options, statistics, dx, dw, db,
                    scratch(frame, norm_backward_workspace(dy, options)).data);
}

namespace {
void expect_head_norms(Operation op, const Tensor& qkv, const HeadNorms& norms) {
  const int64_t dim = norms.q.shape[0];
  expect(norms.q.shape == Shape{dim} && norms.k.shape == norms.q.shape, op, "norms are [D]");
  expect(qkv.shape.rank() == 2 && qkv.shape[1] % dim == 0 && (qkv.shape[1] / dim - norms.heads) % 2 == 0, op,
         "qkv is [T, (A + 2G) D]");
  expect(is_activation(qkv.dtype) && norms.q.dtype == qkv.dtype && norms.k.dtype == qkv.dtype, op, "one type");
}

// T (A + G) D: those of v have no norm.
double elements_of_normed_heads(const Tensor& qkv, const HeadNorms& norms) {
  const int64_t dim = norms.q.shape[0], heads = (qkv.shape[1] / dim + norms.heads) / 2;
  return static_cast<double>(qkv.shape[0] * heads * dim);
}
}  // namespace

void Backend::head_norm_forward(const Tensor& qkv, const HeadNorms& norms, const Tensor& y) {
  constexpr auto op = Operation::head_norm_forward;
  expect_head_norms(op, qkv, norms);
  expect(is_like(y, qkv), op, "y is like qkv");
  count(op, 4 * elements_of_normed_heads(qkv, norms), bytes_of({&qkv, &y}));
  run_head_norm_forward(qkv, norms, y);
}

void Backend::head_norm_backward(const Tensor& qkv, const HeadNorms& norms, const Tensor& dqkv, const Tensor& dq,
                                 const Tensor& dk) {
  constexpr auto op = Operation::head_norm_backward;
  expect_head_norms(op, qkv, norms);
  expect(is_like(dqkv, qkv), op, "dqkv is like qkv");
  expect(dq.shape == norms.q.shape && dk.shape == dq.shape && dq.dtype == DType::f32 && dk.dtype == DType::f32, op,
         "dq, dk are [D] f32");
  const double elements = elements_of_normed_heads(qkv, norms);
  count(op, 10 * elements, 3 * elements * static_cast<double>(size_of(qkv.dtype)));
  Frame frame(*workspace_);
  run_head_norm_backward(qkv, norms, dqkv, dq, dk, scratch(frame, head_norm_backward_workspace(qkv, norms)).data);
}

// ---- rotary positions

void Backend::rope_table(const Tensor& positions, const Tensor& frequencies, float scale, const Tensor& table) {
  constexpr auto op = Operation::rope_table;
  expect(positions.dtype == DType::i32 && frequencies.dtype == DType::f32 && table.dtype == DType::f32, op, "types");
  expect(is_matrix(table, positions.shape[0], 2 * frequencies.shape[0]), op, "table is [T, R], frequencies [R/2]");
  count(op, 2 * elements_of(table), bytes_of({&table}));
  run_rope_table(positions, frequencies, scale, table);
}

namespace {
void expect_rope_table(Operation op, const Tensor& table, const Tensor& q) {
  expect(table.shape.rank() == 2 && table.shape[0] == q.shape[1] && table.shape[1] <= q.shape[2] &&
             table.dtype == DType::f32,
         op, "table is [T, R ≤ D] f32");
}
}  // namespace

void Backend::rope_forward(const Tensor& qkv, const Tensor& table, const Tensor& slots, const Tensor& q,
                           const Tensor& k, const Tensor& v) {
  constexpr auto op = Operation::rope_forward;
  expect(q.shape.rank() == 3 && k.shape.rank() == 3 && v.shape == k.shape && q.shape[2] == k.shape[2], op,
         "q is [A, T, D], k, v [G, C, D]");
  const int64_t tokens = q.shape[1], width = (q.shape[0] + 2 * k.shape[0]) * q.shape[2];
  expect(is_matrix(qkv, tokens, width), op, "qkv is [T, (A + 2G) D]");
  expect_rope_table(op, table, q);
  expect(slots.shape == Shape{tokens} && slots.dtype == DType::i32, op, "slots are [T] i32");
  expect(is_activation(qkv.dtype) && q.dtype == qkv.dtype && k.dtype == qkv.dtype && v.dtype == qkv.dtype, op,
         "one type");
  count(op, 3 * elements_of(qkv), 2 * bytes_of({&qkv}) + bytes_of({&table}));
  run_rope_forward(qkv, table, slots, q, k, v);
}

void Backend::rope_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& table,
                            const Tensor& dqkv) {
  constexpr auto op = Operation::rope_backward;
  expect(dq.shape.rank() == 3 && dk.shape.rank() == 3 && dv.shape == dk.shape && dk.shape[1] == dq.shape[1], op,
         "dq is [A, T, D], dk, dv [G, T, D]");
  expect(is_matrix(dqkv, dq.shape[1], (dq.shape[0] + 2 * dk.shape[0]) * dq.shape[2]), op, "dqkv is [T, (A + 2G) D]");
  expect_rope_table(op, table, dq);
  expect(is_activation(dqkv.dtype) && dq.dtype == dqkv.dtype && dk.dtype == dqkv.dtype && dv.dtype == dqkv.dtype, op,
         "one type");
  count(op, 3 * elements_of(dqkv), 2 * bytes_of({&dqkv}) + bytes_of({&table}));
  run_rope_backward(dq, dk, dv, table, dqkv);
}

// ---- attention

namespace {
void expect_attention(Operation op, const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences) {
  expect(q.shape.rank() == 3 && k.shape.rank() == 3 && v.shape == k.shape && q.shape[2] == k.shape[2], op,
         "q is [A, T, D], k, v [G, C, D]");
  expect(k.shape[0] > 0 && q.shape[0] % k.shape[0] == 0, op, "G divides A");
  expect(is_activation(q.dtype) && k.dtype == q.dtype && v.dtype == q.dtype, op, "one type");
  expect(sequences.ranges.shape.rank() == 2 && sequences.ranges.shape[1] == 4 && sequences.ranges.dtype == DType::i32,
         op, "sequence ranges are [n, 4] i32");
  expect(sequences.count >= 0 && sequences.count <= sequences.ranges.shape[0], op, "no more sequences than ranges");
}
}  // namespace

void Backend::attention_forward(const Tensor& q, const Tensor& k, const Tensor& v, const Sequences& sequences,
                                const AttentionOptions& options, const Tensor& out, const Tensor& lse) {
  constexpr auto op = Operation::attention_forward;
  expect_attention(op, q, k, v, sequences);
  expect(is_matrix(out, q.shape[1], q.shape[0] * q.shape[2]) && out.dtype == q.dtype, op, "out is [T, A D]");
  expect(!lse.exists() || (is_matrix(lse, q.shape[0], q.shape[1]) && lse.dtype == DType::f32), op, "lse is [A, T] f32");
  const double pairs = sequences.pairs_of(options) * static_cast<double>(q.shape[0] * q.shape[2]);
  count(op, 4 * pairs, bytes_of({&q, &k, &v, &out, &lse}));
  Frame frame(*workspace_);
  run_attention_forward(q, k, v, sequences, options, out, lse,
                        scratch(frame, attention_forward_workspace(q, k, sequences)).data);
}

void Backend::attention_backward(const Tensor& dout, const Tensor& q, const Tensor& k, const Tensor& v,
                                 const Tensor& out, const Tensor& lse, const Sequences& sequences,
                                 const AttentionOptions& options, const Tensor& dq, const Tensor& dk,
                                 const Tensor& dv) {
  constexpr auto op = Operation::attention_backward;
  expect_attention(op, q, k, v, sequences);
  expect(k.shape[1] == q.shape[1], op, "keys and queries are the same tokens");
  expect(is_matrix(out, q.shape[1], q.shape[0] * q.shape[2]) && dout.shape == out.shape, op, "out, dout are [T, A D]");
  expect(is_matrix(lse, q.shape[0], q.shape[1]) && lse.dtype == DType::f32, op, "lse is [A, T] f32");
  expect(dq.shape == q.shape && dk.shape == k.shape && dv.shape == v.shape, op, "gradients have their values' shapes");
  expect(out.dtype == q.dtype && dout.dtype == q.dtype && dq.dtype == q.dtype && dk.dtype == q.dtype &&
             dv.dtype == q.dtype,
         op, "one type");
  const double pairs = sequences.pairs_of(options) * static_cast<double>(q.shape[0] * q.shape[2]);
  count(op, 10 * pairs, bytes_of({&q, &k, &v, &out, &dout, &lse, &dq, &dk, &dv}));
  Frame frame(*workspace_);
  run_attention_backward(dout, q, k, v, out, lse, sequences, options, dq, dk, dv,
                         scratch(frame, attention_backward_workspace(q, k, sequences)).data);
}

// ---- feed-forward

void Backend::activation_forward(const Tensor& input, const ActivationOptions& options, const Tensor& y) {
  constexpr auto op = Operation::activation_forward;
  expect(y.shape.rank() == 2 && is_matrix(input, y.shape[0], (options.gated ? 2 : 1) * y.shape[1]), op,
         "input is [T, 2F] or [T, F]");
  expect(is_activation(input.dtype) && y.dtype == input.dtype, op, "one type");
  count(op, 5 * elements_of(y), bytes_of({&input, &y}));
  run_activation_forward(input, options, y);
}

void Backend::activation_backward(const Tensor& dy, const Tensor& input, const ActivationOptions& options) {
  constexpr auto op = Operation::activation_backward;
  expect(dy.shape.rank() == 2 && is_matrix(input, dy.shape[0], (options.gated ? 2 : 1) * dy.shape[1]), op,
         "input is [T, 2F] or [T, F]");
  expect(is_activation(input.dtype) && dy.dtype == input.dtype, op, "one type");
  count(op, 11 * elements_of(dy), 2 * bytes_of({&dy, &input}));
  run_activation_backward(dy, input, options);
}

}  // namespace llama_tp
