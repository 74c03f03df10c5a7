#include "model/head.h"

#include <algorithm>

#include "model/multiplier.h"

namespace llama_tp {

namespace {
// f32 logits of one chunk of tokens on one rank; large enough for products at full speed, small beside the activations.
constexpr int64_t chunk_bytes = int64_t{64} << 20;
constexpr int64_t chunk_multiple = 64;
}  // namespace

int64_t Head::chunk_tokens() const {
  const int64_t fitting = chunk_bytes / (slice_.rows * size_of(DType::f32));
  return std::max(chunk_multiple, fitting / chunk_multiple * chunk_multiple);
}

void Head::product(const Tensor& x, const Tensor& logits) const {
  runtime_.backend.linear_forward(x, weight_.value, {}, logits);
  multiply(runtime_.backend, logits, multiplier_);
}

void Head::chunk(const Tensor& x, const Tensor& targets, bool with_gradient, float scale, const Tensor& loss) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const int64_t tokens = x.shape[0];
  const Tensor logits = frame.take(Category::logits, {tokens, slice_.rows}, DType::f32);
  const Tensor statistics = frame.take(Category::logits, {tokens, 3}, DType::f32);
  const Tensor lse = frame.take(Category::logits, {tokens}, DType::f32);
  product(x, logits);
  backend.cross_entropy_statistics(logits, targets, slice_.begin, slice_.count, statistics);
  if (ranks() > 1) {
    const Tensor gathered = frame.take(Category::communication, {ranks(), tokens, 3}, DType::f32);
    runtime_.tp.all_gather(statistics, gathered).wait();
    backend.cross_entropy_loss(gathered, targets, lse, loss);
  } else {
    backend.cross_entropy_loss(statistics.reshaped({1, tokens, 3}), targets, lse, loss);
  }
  if (!with_gradient) return;
  const Tensor dlogits =
      runtime_.dtype == DType::f32 ? logits : frame.take(Category::logits, logits.shape, runtime_.dtype);
  backend.cross_entropy_backward(logits, targets, lse, slice_.begin, slice_.count, scale * multiplier_, dlogits);
  backend.linear_backward_weight(dlogits, x, weight_.gradient);
  backend.linear_backward_input(dlogits, weight_.value, x);
}

void Head::chunks(const Tensor& x, const Tensor& targets, bool with_gradient, float scale, const Tensor& loss) const {
  const int64_t step = chunk_tokens();
  for (int64_t begin = 0; begin < x.shape[0]; begin += step) {
    const int64_t count = std::min(step, x.shape[0] - begin);
    chunk(x.rows(begin, count), targets.rows(begin, count), with_gradient, scale, loss);
  }
}

void Head::add_loss(const Tensor& x, const Tensor& targets, const Tensor& loss) const {
  Frame frame(runtime_.step);
  chunks(tp_.enter(frame, x), targets, false, 0, loss);
}

// Under sequence parallelism all tokens are gathered at once: a chunk of the ranks' parts would be tokens from several
// places, whose targets do not lie together, and a block's backward needs as large a tensor anyway.
void Head::add_loss_and_gradient(const Tensor& x, const Tensor& targets, float scale, const Tensor& loss) const {
  Frame frame(runtime_.step);
  const Tensor whole = tp_.enter(frame, x);   // [T, H]
  chunks(whole, targets, true, scale, loss);  // whole is its own gradient from here on
  tp_.enter_backward(whole, x);               // each rank had it through its part of the vocabulary
}

Tensor Head::take_logits(Frame& frame, int64_t rows) const {
  return frame.take(Category::logits, {ranks(), rows, slice_.rows}, DType::f32);
}

void Head::gathered_logits(const Tensor& x, const Tensor& logits) const {
  Frame frame(runtime_.step);
  const Shape own{x.shape[0], slice_.rows};
  if (ranks() == 1) {
    product(x, logits.reshaped(own));
    return;
  }
  const Tensor part = frame.take(Category::logits, own, DType::f32);
  product(x, part);
  runtime_.tp.all_gather(part, logits).wait();
}

void Head::assemble_row(const float* gathered, int64_t rows, int64_t row, std::span<float> vocabulary) const {
  const auto total = static_cast<int64_t>(vocabulary.size());
  for (int64_t rank = 0; rank < ranks(); rank++) {
    const int64_t begin = rank * slice_.rows, count = std::min(slice_.rows, total - begin);
    if (count <= 0) break;
    std::copy_n(gathered + (rank * rows + row) * slice_.rows, count, vocabulary.data() + begin);
  }
}

}  // namespace llama_tp
