// Kernels, started on numbers that mean nothing in the emulated device's memory: for those who watch how they run and do
// not care for what they compute (racecheck.cpp, accesses.cpp). A DeviceAccess must live.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "emulation/device_memory.h"
#include "kernels/kernels.h"
#include "kernels/workspace.h"

namespace llama_tp::kernels {

template <class X>
struct DeviceAllocator {
  using value_type = X;
  DeviceAllocator() = default;
  template <class Other>
  DeviceAllocator(const DeviceAllocator<Other>&) {}
  X* allocate(size_t n) { return static_cast<X*>(emulation::reserve_device_memory(bytes_of(n))); }
  void deallocate(X* memory, size_t n) { emulation::release_device_memory(memory, bytes_of(n)); }
  bool operator==(const DeviceAllocator&) const { return true; }

 private:
  static int64_t bytes_of(size_t n) { return static_cast<int64_t>(n * sizeof(X)); }
};
template <class X>
using DeviceVector = std::vector<X, DeviceAllocator<X>>;

template <class X>
DeviceVector<X> values(int64_t n) {
  DeviceVector<X> made(static_cast<size_t>(n));
  for (size_t i = 0; i < made.size(); i++) {
    const float value = 0.25f * static_cast<float>(i * 7 % 13) - 1.5f;
    if constexpr (sizeof(X) == sizeof(bf16))
      made[i] = to_bf16(value);
    else
      made[i] = static_cast<X>(value);
  }
  return made;
}

// Indices into so many rows.
inline DeviceVector<int32_t> indices(int64_t n, int64_t rows) {
  DeviceVector<int32_t> made(static_cast<size_t>(n));
  for (size_t i = 0; i < made.size(); i++) made[i] = static_cast<int32_t>(i * i % static_cast<size_t>(rows));
  return made;
}

inline DeviceVector<char> workspace_of(int64_t bytes) { return DeviceVector<char>(static_cast<size_t>(bytes)); }

// ---- rows

template <class X>
void run_norms(const NormOptions& options, int64_t tokens, int64_t hidden) {
  auto x = values<X>(tokens * hidden), part = x, y = x, dx = x;
  const auto w = values<X>(hidden);
  auto statistics = values<float>(tokens * 2), dw = values<float>(hidden), db = dw;
  auto workspace = workspace_of(norm_backward_workspace(options, tokens, hidden));
  const NormWeights<X> weights{w.data(), w.data(), options};
  norm_forward(nullptr, x.data(), weights, y.data(), statistics.data(), tokens, hidden);
  add_norm_forward(nullptr, x.data(), part.data(), weights, x.data(), y.data(), statistics.data(), tokens, hidden);
  norm_apply(nullptr, x.data(), weights, statistics.data(), y.data(), tokens, hidden);
  norm_backward<X>(nullptr, y.data(), x.data(), weights, statistics.data(), {dx.data(), dw.data(), db.data()}, tokens,
                   hidden, workspace.data());
}

template <class X>
void run_head_norms(const HeadNormShape& shape, int64_t tokens) {
  const auto qkv = values<X>(tokens * (shape.heads + 2 * shape.kv_heads) * shape.head_dim),
             w = values<X>(shape.head_dim);
  auto y = qkv;
  auto dq = values<float>(shape.head_dim), dk = dq;
  auto workspace = workspace_of(head_norm_backward_workspace(shape, tokens));
  const HeadNormWeights<X> weights{w.data(), w.data()};
  head_norm_forward(nullptr, qkv.data(), weights, shape, y.data(), tokens);
  head_norm_backward(nullptr, qkv.data(), weights, shape, y.data(), dq.data(), dk.data(), tokens, workspace.data());
}

template <class X>
void run_rope(const RopeShape& shape) {
  const int64_t pairs = shape.rotary_dim / 2, q_size = shape.heads * shape.tokens * shape.head_dim;
  auto qkv = values<X>(shape.tokens * (shape.heads + 2 * shape.kv_heads) * shape.head_dim);
  auto q = values<X>(q_size), k = values<X>(shape.kv_heads * shape.cache * shape.head_dim), v = k;
  auto table = values<float>(shape.tokens * shape.rotary_dim);
  const auto frequencies = values<float>(pairs);
  const auto positions = indices(shape.tokens, shape.tokens);
  rope_table(nullptr, positions.data(), frequencies.data(), 1, table.data(), shape.tokens, pairs);
  rope_forward<X>(nullptr, qkv.data(), table.data(), nullptr, shape, q.data(), k.data(), v.data());
  rope_backward<X>(nullptr, q.data(), k.data(), v.data(), table.data(), shape, qkv.data());
}

template <class X>
void run_activation(const ActivationOptions& options, int64_t tokens, int64_t width) {
  auto input = values<X>(tokens * width * (options.gated ? 2 : 1)), y = values<X>(tokens * width);
  activation_forward<X>(nullptr, input.data(), options, y.data(), tokens, width);
  activation_backward<X>(nullptr, y.data(), input.data(), options, tokens, width);
}

template <class X>
void run_embedding(int64_t tokens, int64_t rows, int64_t hidden) {
  const auto ids = indices(tokens, rows);
  const auto table = values<X>(rows * hidden);
  auto y = values<X>(tokens * hidden);
  auto dtable = values<float>(rows * hidden);
  embedding_forward<X>(nullptr, ids.data(), table.data(), {0, rows}, y.data(), tokens, hidden);
  embedding_backward<X>(nullptr, ids.data(), y.data(), {0, rows}, -1, dtable.data(), tokens, hidden);
}

// ---- elements and sums

template <class X>
void run_elementwise(int64_t tokens, int64_t hidden) {
  const auto x = values<X>(tokens * hidden);
  const auto rows = indices(tokens, tokens);
  auto y = x;
  add<X>(nullptr, x.data(), y.data(), tokens * hidden);
  scale<X>(nullptr, x.data(), 0.5f, y.data(), tokens * hidden);
  gather_rows<X>(nullptr, x.data(), rows.data(), y.data(), tokens, hidden);
  zero(nullptr, y.data(), tokens * hidden * static_cast<int64_t>(sizeof(X)));
}

template <class X>
void run_sums(int64_t n, int64_t tokens, int64_t width) {
  const auto x = values<float>(n);
  const auto dy = values<X>(tokens * width);
  auto db = values<float>(width);
  auto result = values<double>(1);
  auto workspace = workspace_of(add_sum_of_squares_workspace(n));
  add_sum_of_squares(nullptr, x.data(), result.data(), n, workspace.data());
  bias_backward(nullptr, dy.data(), db.data(), tokens, width);
}

template <class X>
void run_adamw(int64_t n) {
  auto w = values<X>(n);
  auto grad = values<float>(n), m = grad;
  DeviceVector<float> v(static_cast<size_t>(n), 1.0f);
  DeviceVector<int16_t> rest(static_cast<size_t>(n));
  const DeviceVector<double> squared_norm(1, 4.0);
  AdamWOptions options;
  options.max_grad_norm = 1;
  adamw<X>(nullptr, options, {w.data(), rest.data(), grad.data(), m.data(), v.data()}, squared_norm.data(), n);
}

template <class X>
void run_matrix_vector(int64_t tokens, int64_t n, int64_t k) {
  const auto x = values<X>(tokens * k), w = values<X>(n * k);
  auto y = values<X>(tokens * n);
  matrix_vector<X, X>(nullptr, x.data(), w.data(), nullptr, y.data(), tokens, n, k);
}

// ---- logits

template <class X>
void run_cross_entropy(int64_t tokens, int64_t vocabulary) {
  const auto logits = values<float>(tokens * vocabulary);
  auto dlogits = values<X>(tokens * vocabulary);
  auto statistics = values<float>(tokens * 3), lse = values<float>(2 * tokens);
  const DeviceVector<int32_t> targets(static_cast<size_t>(tokens), 3);
  DeviceVector<double> loss(1);
  const LogitColumns columns{0, vocabulary, vocabulary};
  cross_entropy_statistics(nullptr, logits.data(), targets.data(), columns, statistics.data(), tokens);
  cross_entropy_loss(nullptr, statistics.data(), targets.data(), lse.data(), loss.data(), 1, tokens);
  cross_entropy_backward<X>(nullptr, logits.data(), targets.data(), lse.data(), columns, 1, dlogits.data(), tokens);
}

// More candidates than are compared with each other; what is chosen has the penalty, so that it is read behind the
// thread that takes that away.
inline void run_sample(int64_t sequences, int64_t vocabulary) {
  DeviceVector<float> logits(static_cast<size_t>(sequences * vocabulary), 1.0f);
  DeviceVector<int32_t> recent(static_cast<size_t>(sequences * penalty_window), -1),
      ids(static_cast<size_t>(sequences));
  for (int64_t sequence = 0; sequence < sequences; sequence++) {
    logits[static_cast<size_t>(sequence * vocabulary + 5)] = 40;
    recent[static_cast<size_t>(sequence * penalty_window + 40)] = 5;
  }
  const DeviceVector<float> uniforms(static_cast<size_t>(sequences), 0.5f);
  DeviceVector<double> chances(static_cast<size_t>(2 * sequences));
  const SampleShape shape{1, sequences, vocabulary, vocabulary};
  auto workspace = workspace_of(sample_workspace(shape));
  sample(nullptr, logits.data(), shape, recent.data(), uniforms.data(), {.repeat_penalty = 1.5f, .top_k = 300},
         ids.data(), chances.data(), workspace.data());
  // From lists of the likeliest, of which a bin has few.
  for (size_t i = 0; i < logits.size(); i++) logits[i] = static_cast<float>(i * 7919 % 4096) / 128;
  sample(nullptr, logits.data(), shape, recent.data(), uniforms.data(), {.repeat_penalty = 1.5f, .top_k = 200},
         ids.data(), nullptr, workspace.data());
}

// ---- generating

// The kernels that may begin early, each behind one that writes what it reads: so many tokens, two times.
template <class X>
void run_tokens(int64_t tokens) {
  constexpr int64_t heads = 2, kv_heads = 1, dim = 64, cache = 150, hidden = 320, width = 264, vocabulary = 300;
  constexpr int64_t packed = (heads + 2 * kv_heads) * dim, most_rows = 2 * width;
  const auto weights = values<X>(most_rows * hidden);
  const X* const w = weights.data();
  const auto rows_of = [&](int64_t columns) { return values<X>(tokens * columns); };
  auto residual = rows_of(hidden), part = residual, normed = residual, qkv = rows_of(packed), q = rows_of(heads * dim),
       out = q, wide = rows_of(2 * width), narrow = rows_of(width), k = values<X>(cache * dim), v = k;
  auto table = values<float>(tokens * dim), statistics = values<float>(tokens),
       logits = values<float>(tokens * vocabulary), lse = values<float>(heads * tokens);
  const auto frequencies = values<float>(dim / 2), uniforms = values<float>(tokens);
  const DeviceVector<int32_t> ranges{0, static_cast<int32_t>(tokens), 0, cache};
  DeviceVector<int32_t> recent(static_cast<size_t>(tokens * penalty_window), -1);
  const auto rows = indices(tokens, tokens);
  auto ids = indices(tokens, vocabulary), chosen = ids;
  const RopeShape rope{heads, kv_heads, dim, dim, tokens, cache};
  const AttentionShape attention{heads, kv_heads, dim, tokens, cache, ranges.data(), 1, tokens, cache};
  const SampleShape sampled{1, tokens, vocabulary, vocabulary};
  auto workspace = workspace_of(attention_forward_rows_workspace(attention)),
       lists = workspace_of(sample_workspace(sampled));
  const NormWeights<X> norm{w, nullptr, {NormKind::rms, 1e-5f}};
  const auto product = [&]<class Y>(const DeviceVector<X>& x, DeviceVector<Y>& y, int64_t n, int64_t terms) {
    matrix_vector<X, Y>(nullptr, x.data(), w, nullptr, y.data(), tokens, n, terms);
  };
  const auto attend = [&](const AttentionInputs<X>& inputs) {
    const AttentionOptions options{0.2f, 0};
    if constexpr (std::is_same_v<X, bf16>)
      attention_forward_few_queries(nullptr, inputs, attention, options, out.data(), lse.data(), workspace.data());
    else
      attention_forward_rows(nullptr, inputs, attention, options, out.data(), lse.data(), workspace.data());
  };
  for (int time = 0; time < 2; time++) {
    embedding_forward<X>(nullptr, ids.data(), w, {0, vocabulary}, residual.data(), tokens, hidden);
    norm_forward(nullptr, residual.data(), norm, normed.data(), statistics.data(), tokens, hidden);
    product(normed, qkv, packed, hidden);
    head_norm_forward<X>(nullptr, qkv.data(), {w, w}, {heads, kv_heads, dim, 1e-5f}, qkv.data(), tokens);
    rope_forward<X>(nullptr, qkv.data(), table.data(), nullptr, rope, q.data(), k.data(), v.data());
    rope_table(nullptr, rows.data(), frequencies.data(), 1, table.data(), tokens, dim / 2);
    attend(AttentionInputs<X>{q.data(), k.data(), v.data()});
    product(out, part, hidden, heads * dim);
    add_norm_forward(nullptr, residual.data(), part.data(), norm, residual.data(), normed.data(), statistics.data(),
                     tokens, hidden);
    product(normed, wide, 2 * width, hidden);
    activation_forward<X>(nullptr, wide.data(), {Activation::silu, true}, narrow.data(), tokens, width);
    product(narrow, part, hidden, width);
    gather_rows<X>(nullptr, part.data(), rows.data(), normed.data(), tokens, hidden);
    product(normed, logits, vocabulary, hidden);
    sample(nullptr, logits.data(), sampled, recent.data(), uniforms.data(), {}, chosen.data(), nullptr, lists.data());
    feed_choices(nullptr, chosen.data(), ids.data(), recent.data(), tokens);
  }
}

// ---- attention

struct AttentionSizes {
  int64_t heads, kv_heads, head_dim, tokens, cache;
  std::vector<int32_t> ranges;  // backend.h's Sequences
};

template <class X>
class AttentionRun {
 public:
  explicit AttentionRun(const AttentionSizes& sizes)
      : ranges_(sizes.ranges.begin(), sizes.ranges.end()),
        shape_{sizes.heads,
               sizes.kv_heads,
               sizes.head_dim,
               sizes.tokens,
               sizes.cache,
               ranges_.data(),
               static_cast<int64_t>(ranges_.size() / 4),
               longest(1),
               longest(3)},
        q_(values<X>(sizes.heads * sizes.tokens * sizes.head_dim)),
        k_(values<X>(sizes.kv_heads * sizes.cache * sizes.head_dim)) {}

  void forward_tiles() { attention_forward_tiles(nullptr, inputs(), shape_, options_, out_.data(), lse_.data()); }
  void forward_hopper() { attention_forward_hopper(nullptr, inputs(), shape_, options_, out_.data(), lse_.data()); }
  void forward_few_queries() { forward(attention_forward_few_queries); }
  void forward_rows() { forward(attention_forward_rows<X>); }
  void backward_tiles() { backward(attention_backward_tiles, attention_backward_workspace(shape_)); }
  void backward_hopper() { backward(attention_backward_hopper, attention_backward_workspace(shape_)); }
  void backward_rows() { backward(attention_backward_rows<X>, attention_backward_workspace(shape_)); }

 private:
  int64_t longest(size_t column) const {
    int32_t most = 0;
    for (size_t i = column; i < ranges_.size(); i += 4) most = std::max(most, ranges_[i]);
    return most;
  }
  AttentionInputs<X> inputs() const { return {q_.data(), k_.data(), v_.data()}; }
  template <class Forward>
  void forward(const Forward& start) {
    auto workspace = workspace_of(attention_forward_rows_workspace(shape_));
    start(nullptr, inputs(), shape_, options_, out_.data(), lse_.data(), workspace.data());
  }
  template <class Backward>
  void backward(const Backward& start, int64_t workspace_bytes) {
    auto workspace = workspace_of(workspace_bytes);
    start(nullptr, inputs(), AttentionOutputs<X>{dout_.data(), out_.data(), lse_.data()}, shape_, options_,
          AttentionGradients<X>{dq_.data(), dk_.data(), dv_.data()}, workspace.data());
  }

  DeviceVector<int32_t> ranges_;
  AttentionShape shape_;
  AttentionOptions options_{0.2f, 0};
  DeviceVector<X> q_, k_, v_ = k_, out_ = q_, dout_ = q_, dq_ = q_, dk_ = k_, dv_ = k_;
  DeviceVector<float> lse_ = values<float>(shape_.heads * shape_.tokens);
};

}  // namespace llama_tp::kernels
