// The front of the operations (backend/backend.h), on tensors without memory: a shape or type that is violated is an
// Error that names the operation, and what is counted is the row of docs/kernels.md's "On paper".
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "backend/device.h"
#include "backend/meta.h"
#include "model/runtime.h"
#include "parallel/local_communicator.h"
#include "support/error_of.h"

namespace llama_tp {
namespace {

// Letters as in backend.h; x is bf16. Weights, tables and statistics are small beside what has T rows.
constexpr int64_t T = 4096, H = 256, A = 12, G = 2, D = 32, F = 96, V = 300, N = 192, K = 160, ranks = 2, n = 5;
constexpr int64_t qkv_width = (A + 2 * G) * D;
constexpr DType x = DType::bf16;

struct Argument {
  Shape shape;
  DType dtype;
  std::vector<int> free_axes = {};  // which nothing else in the call has to agree with
  bool either_type = false;         // f32 as well as bf16
  Tensor tensor() const { return {nullptr, dtype, shape}; }
};

using Tensors = std::vector<Tensor>;
struct Call {
  Operation operation;
  std::vector<Argument> arguments;
  std::function<void(Backend&, const Tensors&)> run;
  double flops, bytes;  // of docs/kernels.md; bytes < 0: it has no row of them
};

constexpr double product_flops = 2.0 * T * N * K;
// Each query sees T keys, so to say.
constexpr double pairs = 1.0 * T * T;
Sequences sequences_of(const Tensor& ranges) { return {ranges, 1, T, T, T * T, T * T}; }

const std::vector<Call>& calls() {
  using enum Operation;
  constexpr auto f32 = DType::f32, f64 = DType::f64, i32 = DType::i32;
  const Argument ids{{T}, i32}, rows{{T, H}, x}, weight{{H}, x}, gradient{{H}, f32}, statistics{{T, 2}, f32};
  const Argument packed{{T, qkv_width}, x}, head{{D}, x}, head_gradient{{D}, f32}, table{{T, D}, f32};
  const Argument q{{A, T, D}, x}, k{{G, T, D}, x}, out{{T, A * D}, x}, lse{{A, T}, f32}, ranges{{3, 4}, i32, {0}};
  const Argument dy{{T, N}, x}, product_weight{{N, K}, x}, input{{T, K}, x};
  const Argument activated{{T, F}, x}, gate_and_up{{T, 2 * F}, x}, logits{{T, V}, f32}, log_sums{{T, 2}, f32};
  const Argument choices{{n}, i32}, recent{{n, penalty_window}, i32};
  const NormOptions norm{NormKind::layer_norm, 1e-5f};
  static const std::vector<Call> all{
      {linear_forward,
       {input, product_weight, {{N}, x}, {{T, N}, x, {}, true}},
       [](Backend& backend, const Tensors& t) { backend.linear_forward(t[0], t[1], t[2], t[3]); },
       product_flops,
       2.0 * (T * K + N * K + T * N)},
      {linear_backward_input,
       {dy, product_weight, input},
       [](Backend& backend, const Tensors& t) { backend.linear_backward_input(t[0], t[1], t[2]); },
       product_flops,
       2.0 * (T * K + N * K + T * N)},
      {linear_backward_weight,
       {dy, input, {{N, K}, f32}},
       [](Backend& backend, const Tensors& t) { backend.linear_backward_weight(t[0], t[1], t[2]); },
       product_flops,
       2.0 * (T * K + T * N) + 8.0 * N * K},
      {bias_backward,
       {{{T, N}, x, {0}, true}, {{N}, f32}},
       [](Backend& backend, const Tensors& t) { backend.bias_backward(t[0], t[1]); },
       1.0 * T * N,
       2.0 * T * N},
      {norm_forward,
       {rows, weight, weight, rows, statistics},
       [norm](Backend& backend, const Tensors& t) { backend.norm_forward(t[0], t[1], t[2], norm, t[3], t[4]); },
       4.0 * T * H,
       2.0 * T * H * 2},
      {add_norm_forward,
       {rows, rows, weight, weight, rows, rows, statistics},
       [norm](Backend& backend, const Tensors& t) {
         backend.add_norm_forward(t[0], t[1], t[2], t[3], norm, t[4], t[5], t[6]);
       },
       5.0 * T * H,
       4.0 * T * H * 2},
      {norm_apply,
       {rows, weight, weight, statistics, rows},
       [norm](Backend& backend, const Tensors& t) { backend.norm_apply(t[0], t[1], t[2], norm, t[3], t[4]); },
       2.0 * T * H,
       2.0 * T * H * 2},
      {norm_backward,
       {rows, rows, weight, statistics, rows, gradient, gradient},
       [norm](Backend& backend, const Tensors& t) {
         backend.norm_backward(t[0], t[1], t[2], norm, t[3], t[4], t[5], t[6]);
       },
       8.0 * T * H,
       4.0 * T * H * 2},
      {head_norm_forward,
       {packed, head, head, packed},
       [](Backend& backend, const Tensors& t) {
         backend.head_norm_forward(t[0], {t[1], t[2], A}, t[3]);
       },
       4.0 * T * (A + G) * D,
       2.0 * T * qkv_width * 2},
      {head_norm_backward,
       {packed, head, head, packed, head_gradient, head_gradient},
       [](Backend& backend, const Tensors& t) {
         backend.head_norm_backward(t[0], {t[1], t[2], A}, t[3], t[4], t[5]);
       },
       10.0 * T * (A + G) * D,
       3.0 * T * (A + G) * D * 2},
      {rope_table,
       {ids, {{D / 2}, f32}, table},
       [](Backend& backend, const Tensors& t) { backend.rope_table(t[0], t[1], 1, t[2]); },
       2.0 * T * D,
       -1},
      {rope_forward,
       {packed, table, ids, q, k, k},
       [](Backend& backend, const Tensors& t) { backend.rope_forward(t[0], t[1], t[2], t[3], t[4], t[5]); },
       3.0 * T * qkv_width,
       2.0 * T * qkv_width * 2},
      {rope_backward,
       {q, k, k, table, packed},
       [](Backend& backend, const Tensors& t) { backend.rope_backward(t[0], t[1], t[2], t[3], t[4]); },
       3.0 * T * qkv_width,
       2.0 * T * qkv_width * 2},
      {attention_forward,
       {q, k, k, ranges, out, lse},
       [](Backend& backend, const Tensors& t) {
         backend.attention_forward(t[0], t[1], t[2], sequences_of(t[3]), {}, t[4], t[5]);
       },
       4 * pairs * A * D,
       2.0 * T * (2 * A + 2 * G) * D},
      {attention_backward,
       {out, q, k, k, out, lse, ranges, q, k, k},
       [](Backend& backend, const Tensors& t) {
         backend.attention_backward(t[0], t[1], t[2], t[3], t[4], t[5], sequences_of(t[6]), {}, t[7], t[8], t[9]);
       },
       10 * pairs * A * D,
       -1},
      {activation_forward,
       {gate_and_up, activated},
       [](Backend& backend, const Tensors& t) { backend.activation_forward(t[0], {}, t[1]); },
       5.0 * T * F,
       3.0 * T * F * 2},
      {activation_backward,
       {activated, gate_and_up},
       [](Backend& backend, const Tensors& t) { backend.activation_backward(t[0], t[1], {}); },
       11.0 * T * F,
       6.0 * T * F * 2},
      {embedding_forward,
       {ids, {{V, H}, x, {0}}, rows},
       [](Backend& backend, const Tensors& t) { backend.embedding_forward(t[0], t[1], 0, t[2]); },
       0,
       2.0 * T * H * 2},
      {embedding_backward,
       {ids, {{T, H}, x, {}, true}, {{V, H}, f32, {0}}},
       [](Backend& backend, const Tensors& t) { backend.embedding_backward(t[0], t[1], 0, -1, t[2]); },
       1.0 * T * H,
       1.0 * T * H * (2 + 8)},
      {cross_entropy_statistics,
       {{{T, V}, f32, {1}}, ids, {{T, 3}, f32}},
       [](Backend& backend, const Tensors& t) { backend.cross_entropy_statistics(t[0], t[1], 0, V, t[2]); },
       4.0 * T * V,
       4.0 * T * V},
      {cross_entropy_loss,
       {{{ranks, T, 3}, f32, {0}}, ids, log_sums, {{1}, f64}},
       [](Backend& backend, const Tensors& t) { backend.cross_entropy_loss(t[0], t[1], t[2], t[3]); },
       4.0 * ranks * T * 3,
       -1},
      {cross_entropy_backward,
       {logits, ids, log_sums, {{T, V}, x, {}, true}},
       [](Backend& backend, const Tensors& t) { backend.cross_entropy_backward(t[0], t[1], t[2], 0, V, 1, t[3]); },
       4.0 * T * V,
       1.0 * T * V * (4 + 2)},
      {sample,
       {{{ranks, n, V}, f32, {0, 2}}, recent, {{n}, f32}, choices, {{n, 2}, f64}},
       [](Backend& backend, const Tensors& t) { backend.sample(t[0], 2 * V, t[1], t[2], {}, t[3], t[4]); },
       4.0 * ranks * n * V,
       -1},
      {feed_choices,
       {choices, choices, recent},
       [](Backend& backend, const Tensors& t) { backend.feed_choices(t[0], t[1], t[2]); },
       0,
       -1},
      {add,
       {rows, rows},
       [](Backend& backend, const Tensors& t) { backend.add(t[0], t[1]); },
       1.0 * T * H,
       3.0 * T * H * 2},
      {scale,
       {rows, rows},
       [](Backend& backend, const Tensors& t) { backend.scale(t[0], 2, t[1]); },
       1.0 * T * H,
       2.0 * T * H * 2},
      {gather_rows,
       {{{T, H}, x, {0}}, choices, {{n, H}, x}},
       [](Backend& backend, const Tensors& t) { backend.gather_rows(t[0], t[1], t[2]); },
       0,
       -1},
      {add_sum_of_squares,
       {{{T, H}, f32, {0, 1}}, {{1}, f64}},
       [](Backend& backend, const Tensors& t) { backend.add_sum_of_squares(t[0], t[1]); },
       2.0 * T * H,
       4.0 * T * H},
      {adamw,
       {rows, {{T, H}, DType::i16}, {{T, H}, f32}, {{T, H}, f32}, {{T, H}, f32}, {{1}, f64}},
       [](Backend& backend, const Tensors& t) {
         backend.adamw({}, {t[0], t[1], t[2], t[3], t[4]}, t[5]);
       },
       15.0 * T * H,
       32.0 * T * H}};
  return all;
}

class Operations : public testing::Test {
 protected:
  std::unique_ptr<Backend> cpu_ = make_backend("cpu", {.threads = 1});
  MetaBackend backend_{*cpu_};
  LoneGroups lone_;
  Runtime runtime_{backend_, lone_, x};  // whose arena scratch memory is taken from
};

Tensors tensors_of(const Call& call) {
  Tensors tensors;
  for (const Argument& argument : call.arguments) tensors.push_back(argument.tensor());
  return tensors;
}

Shape with_one_more(const Shape& shape, int axis) {
  const auto extent = [&](int of) { return shape[of] + (of == axis ? 1 : 0); };
  if (shape.rank() == 1) return {extent(0)};
  if (shape.rank() == 2) return {extent(0), extent(1)};
  return {extent(0), extent(1), extent(2)};
}

// One tensor at a time has a row or a column too many, or another type.
TEST_F(Operations, RefuseATensorOfAnotherShapeOrType) {
  for (const Call& call : calls())
    for (size_t i = 0; i < call.arguments.size(); i++) {
      const Argument& right = call.arguments[i];
      const auto said_of = [&](const Tensor& wrong) {
        SCOPED_TRACE(
            text(name_of(call.operation), ", argument ", i, ": ", text(wrong.shape), " ", name_of(wrong.dtype)));
        Tensors tensors = tensors_of(call);
        tensors[i] = wrong;
        EXPECT_TRUE(error_of([&] { call.run(backend_, tensors); }).starts_with(text(name_of(call.operation), ": ")));
      };
      for (int axis = 0; axis < right.shape.rank(); axis++)
        if (std::find(right.free_axes.begin(), right.free_axes.end(), axis) == right.free_axes.end())
          said_of({nullptr, right.dtype, with_one_more(right.shape, axis)});
      for (const DType dtype : {DType::f32, DType::bf16, DType::i32, DType::f64})
        if (dtype != right.dtype && !(right.either_type && dtype == DType::f32)) said_of({nullptr, dtype, right.shape});
    }
}

// What a table leaves out as small beside the rest is less than a tenth of it.
TEST_F(Operations, CountWhatTheDocumentationHasOnPaper) {
  for (const Call& call : calls()) {
    SCOPED_TRACE(name_of(call.operation));
    call.run(backend_, tensors_of(call));
    const Work& work = backend_.work(call.operation);
    EXPECT_EQ(work.calls, 1);
    EXPECT_EQ(work.flops, call.flops);
    if (call.bytes < 0) continue;
    EXPECT_GE(work.bytes, call.bytes);
    EXPECT_LT(work.bytes, 1.1 * call.bytes);
  }
}

}  // namespace
}  // namespace llama_tp
