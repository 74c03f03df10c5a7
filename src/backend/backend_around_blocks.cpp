// The checks and counts of what is before and after a model's blocks: embedding, loss, choice, optimizer.
#include "backend/checks.h"
#include "base/sampling.h"

namespace llama_tp {

// ---- embedding

void Backend::embedding_forward(const Tensor& ids, const Tensor& table, int64_t first_row, const Tensor& y) {
  constexpr auto op = Operation::embedding_forward;
  expect(ids.shape.rank() == 1 && ids.dtype == DType::i32 && table.shape.rank() == 2, op,
         "ids are [T] i32, table [V, H]");
  expect(is_matrix(y, ids.shape[0], table.shape[1]) && y.dtype == table.dtype, op, "y is [T, H]");
  count(op, 0, 2 * bytes_of({&y}));
  run_embedding_forward(ids, table, first_row, y);
}

void Backend::embedding_backward(const Tensor& ids, const Tensor& dy, int64_t first_row, int64_t skip_id,
                                 const Tensor& dtable) {
  constexpr auto op = Operation::embedding_backward;
  expect(ids.shape.rank() == 1 && ids.dtype == DType::i32 && dtable.shape.rank() == 2, op,
         "ids are [T] i32, dtable [V, H]");
  expect(is_matrix(dy, ids.shape[0], dtable.shape[1]) && is_activation(dy.dtype) && dtable.dtype == DType::f32, op,
         "dy is [T, H], dtable f32");
  count(op, elements_of(dy), bytes_of({&dy}) + 2 * elements_of(dy) * 4);
  Frame frame(*workspace_);
  run_embedding_backward(ids, dy, first_row, skip_id, dtable,
                         scratch(frame, embedding_backward_workspace(ids, dtable)).data);
}

// ---- loss

namespace {
void expect_targets(Operation op, const Tensor& targets, int64_t tokens) {
  expect(targets.shape == Shape{tokens} && targets.dtype == DType::i32, op, "targets are [T] i32");
}
}  // namespace

void Backend::cross_entropy_statistics(const Tensor& logits, const Tensor& targets, int64_t first_column,
                                       int64_t columns, const Tensor& statistics) {
  constexpr auto op = Operation::cross_entropy_statistics;
  expect(logits.shape.rank() == 2 && logits.dtype == DType::f32 && columns <= logits.shape[1], op,
         "logits are [T, V] f32");
  expect_targets(op, targets, logits.shape[0]);
  expect(is_matrix(statistics, logits.shape[0], 3) && statistics.dtype == DType::f32, op, "statistics are [T, 3] f32");
  count(op, 4 * elements_of(logits), bytes_of({&logits}));
  run_cross_entropy_statistics(logits, targets, first_column, columns, statistics);
}

void Backend::cross_entropy_loss(const Tensor& gathered, const Tensor& targets, const Tensor& lse, const Tensor& loss) {
  constexpr auto op = Operation::cross_entropy_loss;
  expect(gathered.shape.rank() == 3 && gathered.shape[2] == 3 && gathered.dtype == DType::f32, op,
         "gathered is [ranks, T, 3] f32");
  expect_targets(op, targets, gathered.shape[1]);
  expect(lse.shape == Shape{targets.shape[0], 2} && lse.dtype == DType::f32 && loss.shape == Shape{1} &&
             loss.dtype == DType::f64,
         op, "lse is [T, 2] f32, loss [1] f64");
  count(op, 4 * elements_of(gathered), bytes_of({&gathered, &lse}));
  run_cross_entropy_loss(gathered, targets, lse, loss);
}

void Backend::cross_entropy_backward(const Tensor& logits, const Tensor& targets, const Tensor& lse,
                                     int64_t first_column, int64_t columns, float scale, const Tensor& dlogits) {
  constexpr auto op = Operation::cross_entropy_backward;
  expect(logits.shape.rank() == 2 && logits.dtype == DType::f32 && columns <= logits.shape[1], op,
         "logits are [T, V] f32");
  expect_targets(op, targets, logits.shape[0]);
  expect(is_matrix(lse, logits.shape[0], 2) && lse.dtype == DType::f32, op, "lse is [T, 2] f32");
  expect(dlogits.shape == logits.shape && is_activation(dlogits.dtype), op, "dlogits is [T, V]");
  count(op, 4 * elements_of(logits), bytes_of({&logits, &dlogits}));
  run_cross_entropy_backward(logits, targets, lse, first_column, columns, scale, dlogits);
}

// ---- generation

void Backend::sample(const Tensor& logits, int64_t vocabulary, const Tensor& recent, const Tensor& uniforms,
                     const SamplingOptions& options, const Tensor& ids, const Tensor& chances) {
  constexpr auto op = Operation::sample;
  expect(logits.shape.rank() == 3 && logits.dtype == DType::f32, op, "logits are [ranks, n, V] f32");
  expect(vocabulary >= 1 && vocabulary <= logits.shape[0] * logits.shape[2] && vocabulary <= most_candidates, op,
         "the vocabulary is among the logits");
  const int64_t n = logits.shape[1];
  expect(is_matrix(recent, n, penalty_window) && recent.dtype == DType::i32, op, "recent is [n, 64] i32");
  expect(uniforms.shape == Shape{n} && uniforms.dtype == DType::f32, op, "uniforms are [n] f32");
  expect(ids.shape == Shape{n} && ids.dtype == DType::i32, op, "ids are [n] i32");
  expect(!chances.exists() || (is_matrix(chances, n, 2) && chances.dtype == DType::f64), op, "chances are [n, 2] f64");
  count(op, 4 * elements_of(logits), bytes_of({&logits, &recent, &ids}));
  Frame frame(*workspace_);
  run_sample(logits, vocabulary, recent, uniforms, options, ids, chances,
             scratch(frame, sample_workspace(logits)).data);
}

void Backend::feed_choices(const Tensor& ids, const Tensor& next, const Tensor& recent) {
  constexpr auto op = Operation::feed_choices;
  expect(ids.shape.rank() == 1 && next.shape == ids.shape && ids.dtype == DType::i32 && next.dtype == DType::i32, op,
         "ids and next are [n] i32");
  expect(is_matrix(recent, ids.shape[0], penalty_window) && recent.dtype == DType::i32, op, "recent is [n, 64] i32");
  count(op, 0, 3 * bytes_of({&ids}));
  run_feed_choices(ids, next, recent);
}

// ---- small ones

void Backend::add(const Tensor& x, const Tensor& y) {
  expect(x.shape == y.shape && x.dtype == y.dtype && is_activation(x.dtype), Operation::add, "x and y are alike");
  count(Operation::add, elements_of(x), bytes_of({&x, &y, &y}));
  run_add(x, y);
}

void Backend::scale(const Tensor& x, float factor, const Tensor& y) {
  constexpr auto op = Operation::scale;
  expect(x.shape == y.shape && x.dtype == y.dtype && is_activation(x.dtype), op, "x and y are of one shape and type");
  count(op, elements_of(x), bytes_of({&x, &y}));
  run_scale(x, factor, y);
}

void Backend::zero(const Tensor& x) {
  count(Operation::zero, 0, bytes_of({&x}));
  run_zero(x);
}

void Backend::gather_rows(const Tensor& x, const Tensor& rows, const Tensor& y) {
  constexpr auto op = Operation::gather_rows;
  expect(x.shape.rank() == 2 && rows.dtype == DType::i32 && rows.shape.rank() == 1, op, "x is [T, H], rows [n] i32");
  expect(is_matrix(y, rows.shape[0], x.shape[1]) && y.dtype == x.dtype, op, "y is [n, H]");
  count(op, 0, 2 * bytes_of({&y}));
  run_gather_rows(x, rows, y);
}

// ---- optimizer

void Backend::add_sum_of_squares(const Tensor& x, const Tensor& result) {
  constexpr auto op = Operation::add_sum_of_squares;
  expect(x.dtype == DType::f32 && result.shape == Shape{1} && result.dtype == DType::f64, op,
         "x is f32, result [1] f64");
  count(op, 2 * elements_of(x), bytes_of({&x}));
  Frame frame(*workspace_);
  run_add_sum_of_squares(x, result, scratch(frame, add_sum_of_squares_workspace(x)).data);
}

void Backend::adamw(const AdamWOptions& options, const OptimizerTensors& tensors, const Tensor& squared_norm) {
  constexpr auto op = Operation::adamw;
  const auto& [w, rest, gradient, m, v] = tensors;
  expect(is_activation(w.dtype) && (w.dtype == DType::bf16) == rest.exists(), op,
         "bf16 weights have a rest, f32 weights none");
  expect(!rest.exists() || (rest.dtype == DType::i16 && rest.elements() == w.elements()), op,
         "rest is i16, as large as w");
  expect(gradient.elements() == w.elements() && m.elements() == w.elements() && v.elements() == w.elements(), op,
         "one size");
  expect(gradient.dtype == DType::f32 && m.dtype == DType::f32 && v.dtype == DType::f32, op,
         "gradient and moments are f32");
  expect(squared_norm.shape == Shape{1} && squared_norm.dtype == DType::f64, op, "squared_norm is [1] f64");
  count(op, 15 * elements_of(w), 2 * bytes_of({&w, &rest, &gradient, &m, &v}));
  run_adamw(options, tensors, squared_norm);
}

}  // namespace llama_tp
