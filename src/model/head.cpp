#include "model/head.h"

#include "base/parts.h"
#include "model/multiplier.h"

namespace llama_tp {

void Head::compute_logits(const Tensor& x, const Tensor& logits) const {
  runtime_.backend.linear_forward(x, weight_.value, {}, logits);
  multiply(runtime_.backend, logits, multiplier_);
}

void Head::add_loss_of_piece(const Tensor& x, const Tensor& targets, float scale, const Tensor& dlogits,
                             const Tensor& loss) const {
  Frame frame(runtime_.step);
  Backend& backend = runtime_.backend;
  const int64_t tokens = x.shape[0];
  const bool in_place = dlogits.exists() && dlogits.dtype == DType::f32;
  // f32, as the product's sums are: a likely token's loss is a small difference of large logits, finer than bf16 has them.
  const Tensor logits = in_place ? dlogits : frame.take(Category::logits, {tokens, slice_.rows}, DType::f32);
  const Tensor statistics = frame.take(Category::logits, {tokens, 3}, DType::f32);
  const Tensor lse = frame.take(Category::logits, {tokens, 2}, DType::f32);
  compute_logits(x, logits);
  backend.cross_entropy_statistics(logits, targets, slice_.begin, slice_.count, statistics);
  if (ranks() > 1) {
    const Tensor gathered = frame.take(Category::communication, {ranks(), tokens, 3}, DType::f32);
    runtime_.groups.tensor.all_gather(statistics, gathered).wait();
    backend.cross_entropy_loss(gathered, targets, lse, loss);
  } else {
    backend.cross_entropy_loss(statistics.reshaped({1, tokens, 3}), targets, lse, loss);
  }
  if (dlogits.exists())
    backend.cross_entropy_backward(logits, targets, lse, slice_.begin, slice_.count, scale * multiplier_, dlogits);
}

void Head::add_loss_of_pieces(const Tensor& x, const Tensor& targets, float scale, const Tensor& dlogits,
                              const Tensor& loss) const {
  each_part(x.shape[0], loss_tokens().piece, [&](int64_t begin, int64_t count) {
    add_loss_of_piece(x.rows(begin, count), targets.rows(begin, count), scale,
                      dlogits.exists() ? dlogits.rows(begin, count) : dlogits, loss);
  });
}

void Head::add_loss_and_gradient_of_chunk(const Tensor& x, const Tensor& targets, float scale,
                                          const Tensor& loss) const {
  Frame frame(runtime_.step);
  const Tensor dlogits = frame.take(Category::logits, {x.shape[0], slice_.rows}, runtime_.dtype);
  add_loss_of_pieces(x, targets, scale, dlogits, loss);
  runtime_.backend.linear_backward_weight(dlogits, x, weight_.gradient);
  runtime_.backend.linear_backward_input(dlogits, weight_.value, x);
}

void Head::add_loss(const Tensor& x, const Tensor& targets, const Tensor& loss) const {
  Frame frame(runtime_.step);
  add_loss_of_pieces(tp_.begin_enter(x, tp_.take_whole(frame, x)).wait(), targets, 0, {}, loss);
}

// Under sequence parallelism all tokens are gathered before the first chunk: where they are not gathered in parts, a chunk
// of what the ranks hold is tokens from several places, whose targets do not lie together; and a block's backward needs as
// large a tensor anyway.
void Head::add_loss_and_gradient(const Tensor& x, const Tensor& targets, float scale, const Tensor& loss) const {
  Frame frame(runtime_.step);
  const Tensor whole =
      tp_.begin_enter(x, tp_.take_whole(frame, x)).wait();  // [T, H]; its own gradient once its chunk is done
  each_part(whole.shape[0], loss_tokens().chunk, [&](int64_t begin, int64_t count) {
    add_loss_and_gradient_of_chunk(whole.rows(begin, count), targets.rows(begin, count), scale, loss);
  });
  tp_.begin_enter_backward(whole, x).wait();  // each rank had it through its part of the vocabulary
}

Tensor Head::take_logits(Frame& frame, int64_t rows) const {
  return frame.take(Category::logits, {ranks(), rows, slice_.rows}, DType::f32);
}

void Head::gathered_logits(const Tensor& x, const Tensor& logits) const {
  Frame frame(runtime_.step);
  const Shape own{x.shape[0], slice_.rows};
  if (ranks() == 1) {
    compute_logits(x, logits.reshaped(own));
    return;
  }
  const Tensor part = frame.take(Category::logits, own, DType::f32);
  compute_logits(x, part);
  runtime_.groups.tensor.all_gather(part, logits).wait();
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
