// Operations one at a time, in the shapes that a tensor-parallel rank of a training step gives them.
#include <algorithm>
#include <functional>

#include "backend/fill.h"
#include "base/parts.h"
#include "base/random.h"
#include "bench/measurements.h"
#include "bench/timing.h"
#include "model/batch.h"
#include "model/parameters.h"
#include "model/rehearsal.h"
#include "parallel/local_communicator.h"
#include "parallel/tensor_parallel.h"
#include "report/format.h"

namespace llama_tp {

namespace {

constexpr int64_t operation_runs = 5;
constexpr int64_t calls_on_device = 10;  // between two waits for it: a wait takes as long as a small operation
constexpr int name_width = 46;
constexpr int64_t least_weights = int64_t{1} << 23;  // of an optimizer's step, far more than caches hold

struct Timing {
  std::string name;
  double seconds, flops, bytes;
};

Work all_work(const Backend& backend) {
  Work sum;
  for (int i = 0; i < static_cast<int>(Operation::count_); i++) {
    const Work& work = backend.work(static_cast<Operation>(i));
    sum.calls += work.calls;
    sum.flops += work.flops;
    sum.bytes += work.bytes;
  }
  return sum;
}

// Letters as in backend/backend.h; S: the tokens between the regions that the plan splits. Of the first block.
class Kernels {
 public:
  // parameters: of the rank. sequence_ranks: that divide the tokens.
  Kernels(const Bench& bench, const Parameters& parameters, int64_t tensor_ranks, int64_t sequence_ranks)
      : bench_(bench),
        tensor_ranks_(tensor_ranks),
        layout_(parameters.layout(0)),
        embedding_(parameters.embedding_slice()),
        vocabulary_(parameters.head_slice()),
        H(bench.config.hidden),
        A(layout_.heads),
        G(layout_.kv_heads),
        D(bench.config.head_dim),
        F(layout_.ffn),
        V(vocabulary_.rows),
        T(round_up(bench.settings.micro_batch * bench.settings.block_size, sequence_ranks)),
        S(T / sequence_ranks) {}

  // "2 of 8 heads, …"
  std::string shapes() const {
    const ModelConfig& config = bench_.config;
    return text(A, " of ", config.heads, " heads, ", G, " of ", config.kv_heads, " of keys, ", F, " of ", config.ffn,
                " columns of the feed-forward, ", V, " of ", config.vocabulary, " logits; ", with_commas(T),
                " tokens, norms of ", with_commas(S), ", the loss of ", with_commas(loss_tokens()));
  }

  std::vector<Timing> run(Runtime& on) {
    runtime_ = &on;
    timings_.clear();
    embedding();
    products();
    attention();
    elementwise();
    loss();
    optimizer();
    return timings_;
  }

 private:
  // Zeros, pushed into the state arena.
  Tensor zeros(const Shape& shape, DType dtype) {
    const Tensor tensor = runtime_->state.push(Category::transient, shape, dtype);
    runtime_->backend.zero(tensor);
    return tensor;
  }
  Tensor numbers(const Shape& shape, DType dtype) {
    const Tensor tensor = runtime_->state.push(Category::transient, shape, dtype);
    fill(runtime_->backend, tensor);
    return tensor;
  }
  Tensor numbers(const Shape& shape) { return numbers(shape, runtime_->dtype); }
  void time(const std::string& name, const std::function<void()>& work) {
    const Work before = all_work(runtime_->backend);
    bench_.world->barrier();
    const int64_t together = runtime_->backend.device() == nullptr ? 1 : calls_on_device;
    const double seconds = median_seconds(operation_runs, [&] {
      for (int64_t call = 0; call < together; call++) work();
      runtime_->backend.synchronize();
    });
    const Work after = all_work(runtime_->backend);
    const auto calls = static_cast<double>((operation_runs + 1) * together);
    timings_.push_back({name, seconds / static_cast<double>(together), (after.flops - before.flops) / calls,
                        (after.bytes - before.bytes) / calls});
  }

  // Of the feed-forward's first product, in which the gate, where there is one, lies above up.
  int64_t up_rows() const { return (bench_.config.activation.gated ? 2 : 1) * F; }

  // y = x · wᵀ, of as many tokens as y has, and its backward: of the input for `input_tokens` of dy's, of the weight for
  // all.
  void product(const std::string& weight, const Tensor& y, const Tensor& dy, int64_t input_tokens, int64_t inputs) {
    PushScope scope(runtime_->state);
    Backend& backend = runtime_->backend;
    const Shape shape{y.shape[1], inputs};
    const Tensor x = numbers({y.shape[0], inputs}), dx = numbers({dy.shape[0], inputs}), w = numbers(shape),
                 dw = zeros(shape, DType::f32);
    time("product, forward (" + weight + ")", [&] { backend.linear_forward(x, w, {}, y); });
    time("product, backward of the input (" + weight + ")",
         [&] { backend.linear_backward_input(dy.rows(0, input_tokens), w, dx.rows(0, input_tokens)); });
    time("product, backward of the weight (" + weight + ")", [&] { backend.linear_backward_weight(dy, dx, dw); });
  }

  // Tokens of a product where the ranks gather its operand, or sum its result, part by part (model/linear.h).
  int64_t part_tokens() const {
    return own_tokens_of_a_part(*bench_.backend, S, T / S, H * size_of(bench_.settings.dtype)) * (T / S);
  }
  int64_t gathered_tokens() const { return S < T ? part_tokens() : T; }
  int64_t summed_tokens(bool split) const { return split && tensor_ranks_ > 1 ? part_tokens() : T; }

  void column_parallel(const std::string& weight, int64_t inputs, int64_t outputs) {
    PushScope scope(runtime_->state);
    const Tensor y = numbers({T, outputs});
    product(weight, y.rows(0, gathered_tokens()), y, T, inputs);
  }

  void row_parallel(const std::string& weight, int64_t inputs, int64_t outputs, bool split) {
    PushScope scope(runtime_->state);
    const Tensor y = numbers({T, outputs});
    product(weight, y.rows(0, summed_tokens(split)), y, gathered_tokens(), inputs);
  }

  void products() {
    column_parallel("q, k, v", H, (A + 2 * G) * D);
    row_parallel("o", A * D, H, layout_.attention_split);
    column_parallel(bench_.config.activation.gated ? "gate and up" : "up", H, up_rows());
    row_parallel("down", F, H, layout_.mlp_split);
    PushScope scope(runtime_->state);
    product("head", numbers({loss_tokens(), V}, DType::f32), numbers({gradient_tokens(), V}), gradient_tokens(), H);
  }

  // Any of the vocabulary: the same one's row again and again would come from a cache.
  std::vector<int32_t> tokens(int64_t begin, int64_t count) const {
    std::vector<int32_t> ids;
    for (int64_t i = begin; i < begin + count; i++)
      ids.push_back(static_cast<int32_t>(random_uint64(1, 0, static_cast<uint64_t>(i)) %
                                         static_cast<uint64_t>(bench_.config.vocabulary)));
    return ids;
  }

  // Samples of the run's length, and a shorter one where ranks that divide the tokens need more of them.
  Batch samples() {
    const int64_t length = bench_.settings.block_size;
    HostBatch host;
    each_part(T, length, [&](int64_t begin, int64_t count) { host.append(tokens(begin, count), {}, 0, begin); });
    Batch batch = push_batch(runtime_->state, T, ceil_div(T, length), bench_.config.window());
    upload(runtime_->backend, host, batch);
    return batch;
  }

  void embedding() {
    PushScope scope(runtime_->state);
    Backend& backend = runtime_->backend;
    const int64_t skipped = bench_.config.pad_id.value_or(-1);
    const Batch batch = samples();
    const Tensor table = numbers({embedding_.rows, H}), dtable = zeros({embedding_.rows, H}, DType::f32),
                 y = numbers({T, H});
    time("embedding, forward", [&] { backend.embedding_forward(batch.ids, table, embedding_.begin, y); });
    time("embedding, backward", [&] { backend.embedding_backward(batch.ids, y, embedding_.begin, skipped, dtable); });
  }

  void attention() {
    PushScope scope(runtime_->state);
    Backend& backend = runtime_->backend;
    const Batch batch = samples();
    const AttentionOptions options{bench_.config.attention_scale, layout_.window};
    const Tensor q = numbers({A, T, D}), k = numbers({G, T, D}), v = numbers({G, T, D}), dq = numbers({A, T, D}),
                 dk = numbers({G, T, D}), dv = numbers({G, T, D}), out = numbers({T, A * D}),
                 dout = numbers({T, A * D}), lse = zeros({A, T}, DType::f32);
    time("attention, forward", [&] { backend.attention_forward(q, k, v, batch.sequences, options, out, lse); });
    time("attention, backward",
         [&] { backend.attention_backward(dout, q, k, v, out, lse, batch.sequences, options, dq, dk, dv); });
    const Tensor qkv = numbers({T, (A + 2 * G) * D}), table = numbers({T, bench_.config.rotary_dim}, DType::f32);
    time("rotary positions, forward", [&] { backend.rope_forward(qkv, table, batch.slots, q, k, v); });
    time("rotary positions, backward", [&] { backend.rope_backward(dq, dk, dv, table, qkv); });
    if (bench_.config.qk_norm) head_norms(qkv);
  }

  void head_norms(const Tensor& qkv) {
    PushScope scope(runtime_->state);
    Backend& backend = runtime_->backend;
    const HeadNorms norms{numbers({D}), numbers({D}), A, bench_.config.norm.epsilon};
    const Tensor y = numbers(qkv.shape), dq = zeros({D}, DType::f32), dk = zeros({D}, DType::f32);
    time("norms of heads, forward", [&] { backend.head_norm_forward(qkv, norms, y); });
    time("norms of heads, backward", [&] { backend.head_norm_backward(qkv, norms, y, dq, dk); });
  }

  void elementwise() {
    PushScope scope(runtime_->state);
    Backend& backend = runtime_->backend;
    const NormOptions& norm = bench_.config.norm;
    const Tensor part = numbers({S, H}), residual = numbers({S, H}), y = numbers({S, H}), w = numbers({H}),
                 dw = zeros({H}, DType::f32);
    const Tensor b = bench_.config.norm_bias ? numbers({H}) : Tensor{},
                 db = bench_.config.norm_bias ? zeros({H}, DType::f32) : Tensor{};
    const Tensor statistics = zeros(statistics_shape(norm, S), DType::f32);
    time("addition and norm, forward",
         [&] { backend.add_norm_forward(part, residual, w, b, norm, residual, y, statistics); });
    time("norm again, in backward", [&] { backend.norm_apply(residual, w, b, norm, statistics, y); });
    time("norm, backward", [&] { backend.norm_backward(y, residual, w, norm, statistics, part, dw, db); });
    const ActivationOptions& activation = bench_.config.activation;
    const Tensor input = numbers({T, up_rows()}), product = numbers({T, F});
    time("activation, forward", [&] { backend.activation_forward(input, activation, product); });
    time("activation, backward", [&] { backend.activation_backward(product, input, activation); });
  }

  // As the head takes them, and their gradients.
  int64_t loss_tokens() const { return std::min(T, bench_.backend->loss_tokens(V, bench_.settings.dtype).piece); }
  int64_t gradient_tokens() const { return std::min(T, bench_.backend->loss_tokens(V, bench_.settings.dtype).chunk); }

  void loss() {
    PushScope scope(runtime_->state);
    Backend& backend = runtime_->backend;
    const int64_t rows = loss_tokens(), begin = vocabulary_.begin, count = vocabulary_.count;
    const Tensor logits = numbers({rows, V}, DType::f32), targets = zeros({rows}, DType::i32),
                 statistics = zeros({rows, 3}, DType::f32), lse = zeros({rows, 2}, DType::f32),
                 dlogits = runtime_->dtype == DType::f32 ? logits : numbers({rows, V});
    time("loss, statistics", [&] { backend.cross_entropy_statistics(logits, targets, begin, count, statistics); });
    time("loss, backward", [&] { backend.cross_entropy_backward(logits, targets, lse, begin, count, 1, dlogits); });
  }

  void optimizer() {
    PushScope scope(runtime_->state);
    Backend& backend = runtime_->backend;
    const Shape all{std::max(up_rows() * H, least_weights)};
    const Tensor w = numbers(all), gradient = numbers(all, DType::f32), m = zeros(all, DType::f32),
                 v = zeros(all, DType::f32), norm = zeros({1}, DType::f64);
    const Tensor rest = runtime_->dtype == DType::bf16 ? zeros(all, DType::i16) : Tensor{};
    time("sum of squares", [&] { backend.add_sum_of_squares(gradient, norm); });
    time("AdamW", [&] { backend.adamw({.max_grad_norm = 1}, {w, rest, gradient, m, v}, norm); });
  }

  const Bench& bench_;
  int64_t tensor_ranks_;
  const LayerLayout& layout_;
  const VocabularySlice &embedding_, &vocabulary_;
  int64_t H, A, G, D, F, V, T, S;
  Runtime* runtime_ = nullptr;
  std::vector<Timing> timings_;
};

}  // namespace

void bench_kernels(const Bench& bench, const MachineRates& machine) {
  const MeshShape mesh = bench.shape();
  const int64_t sequence_ranks = bench.settings.sequence_parallel ? mesh.tensor : 1;
  const Parameters parameters(bench.config, bench.launch.rank() % mesh.tensor, mesh.tensor, sequence_ranks > 1);
  Kernels kernels(bench, parameters, mesh.tensor, sequence_ranks);
  LoneGroups lone;
  Runtime own(*bench.backend, lone, bench.settings.dtype);
  own.reserve(rehearse(*bench.backend, own, [&](Runtime& meta) { kernels.run(meta); }));
  bench.say(text("operations on all ranks, each as one of ", counted(mesh.tensor, "tensor-parallel rank"), ": ",
                 kernels.shapes(), "\n", padded("µs", name_width + 10), padded("GFLOP/s", 10), padded("GB/s", 8),
                 "  of the limit"));
  for (const Timing& timing : kernels.run(own)) {
    const double flops = bench.sum_over_ranks(timing.flops / timing.seconds),
                 bytes = bench.sum_over_ranks(timing.bytes / timing.seconds);
    const double of_flops = flops / machine.product_flops, of_bytes = bytes / machine.read_bytes;
    std::string name = timing.name;
    name.resize(name_width, ' ');
    bench.say(name + padded(fixed(timing.seconds * 1e6, 1), 9) + padded(fixed(flops / 1e9, 1), 10) +
              padded(fixed(bytes / 1e9, 1), 8) + padded(fixed(100 * std::max(of_flops, of_bytes), 0), 5) +
              (of_flops > of_bytes ? "% of FLOP/s" : "% of bytes/s"));
  }
}

}  // namespace llama_tp
