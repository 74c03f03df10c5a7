#include "model/fsdp.h"

#include <algorithm>

namespace llama_tp {

Fsdp::Fsdp(Parameters& parameters, Runtime& runtime, const FsdpOptions& options, int64_t blocks)
    : parameters_(parameters), runtime_(runtime), options_(options), kept_(static_cast<size_t>(blocks)) {
  if (!is_sharded()) return;
  for (int64_t layer = 0; layer < blocks; layer++)
    block_elements_ = std::max(block_elements_, parameters.block_unit(layer).elements);
  const Unit& norms = parameters.norm_unit();
  norms_ = runtime.state.push(Category::gathered_parameters, {norms.elements}, runtime.dtype);
  norms.bind_values(norms_);
  if (!norms.gradient.exists()) return;
  norm_gradients_ = runtime.state.push(Category::unsharded_gradients, {norms.elements}, DType::f32);
  norms.bind_gradients(norm_gradients_);
}

void Fsdp::open_norms() const {
  if (!is_sharded()) return;
  gather(parameters_.norm_unit(), norms_).wait();
  if (norm_gradients_.exists()) runtime_.backend.zero(norm_gradients_);
}

void Fsdp::reduce_norms() const {
  if (is_sharded()) reduce(parameters_.norm_unit(), norm_gradients_);
}

Pending Fsdp::gather(const Unit& unit, const Tensor& whole) const {
  return runtime_.groups.fsdp.all_gather(unit.value, whole);
}

void Fsdp::reduce(const Unit& unit, const Tensor& whole) const {
  Frame frame(runtime_.step);
  const Tensor part = frame.take(Category::communication, unit.gradient.shape, DType::f32);
  runtime_.groups.fsdp.reduce_scatter(whole, part).wait();
  runtime_.backend.add(part, unit.gradient);
}

// ---- one unit

WholeUnit::WholeUnit(const Fsdp& fsdp, const Unit& unit, Use use)
    : fsdp_(fsdp), unit_(unit), frame_(fsdp.runtime_.step) {
  if (!fsdp_.is_sharded()) return;
  if (use != Use::gradients) {
    const Tensor whole = frame_.take(Category::gathered_parameters, {unit.elements}, fsdp_.runtime_.dtype);
    fsdp_.gather(unit, whole).wait();
    unit_.bind_values(whole);
  }
  if (use == Use::values) return;
  gradients_ = frame_.take(Category::unsharded_gradients, {unit.elements}, DType::f32);
  fsdp_.runtime_.backend.zero(gradients_);
  unit_.bind_gradients(gradients_);
}

void WholeUnit::reduce() const {
  if (fsdp_.is_sharded()) fsdp_.reduce(unit_, gradients_);
}

WholeUnit::~WholeUnit() {
  if (!fsdp_.is_sharded()) return;
  unit_.bind_values({});
  unit_.bind_gradients({});
}

// ---- the blocks

BlockLoop::BlockLoop(Fsdp& fsdp, Frame& frame, Pass pass) : fsdp_(fsdp), pass_(pass) {
  if (!fsdp_.is_sharded()) return;
  const bool prefetch = fsdp_.options_.prefetch;
  const Shape shape{fsdp_.block_elements_};
  for (size_t i = 0; i < (prefetch ? 2 : 1); i++) {
    if (!keeps()) slots_[i] = frame.take(Category::gathered_parameters, shape, fsdp_.runtime_.dtype);
    if (pass_ == Pass::backward) gradient_slots_[i] = frame.take(Category::unsharded_gradients, shape, DType::f32);
  }
  if (pass_ == Pass::backward && prefetch)
    part_ =
        frame.take(Category::communication, {fsdp_.block_elements_ / fsdp_.runtime_.groups.fsdp.size()}, DType::f32);
}

Tensor& BlockLoop::buffer(int64_t layer) {
  if (keeps()) return fsdp_.kept_[static_cast<size_t>(layer)];
  return slots_[slot(layer)];
}

Tensor BlockLoop::gradients(int64_t layer) const {
  return gradient_slots_[slot(layer)].rows(0, fsdp_.parameters_.block_unit(layer).elements);
}

void BlockLoop::start(int64_t layer) {
  const Unit& unit = fsdp_.parameters_.block_unit(layer);
  if (keeps())
    buffer(layer) = fsdp_.runtime_.step.push(Category::gathered_parameters, {unit.elements}, fsdp_.runtime_.dtype);
  pending_[slot(layer)] = fsdp_.gather(unit, buffer(layer).rows(0, unit.elements));
  started_ = layer;
}

void BlockLoop::gather(int64_t layer) {
  if (!fsdp_.is_sharded()) return;
  const Unit& unit = fsdp_.parameters_.block_unit(layer);
  if (gathers()) {
    if (started_ != layer) start(layer);
    pending_[slot(layer)].wait();
  }
  unit.bind_values(buffer(layer));
  const int64_t next = pass_ == Pass::backward ? layer - 1 : layer + 1;
  if (gathers() && fsdp_.options_.prefetch && next >= 0 && next < static_cast<int64_t>(fsdp_.kept_.size())) start(next);
  if (pass_ != Pass::backward) return;
  fsdp_.runtime_.backend.zero(gradients(layer));
  unit.bind_gradients(gradients(layer));
}

void BlockLoop::reduce(int64_t layer, const OnGradientReady& on_gradient_ready) {
  const Unit& unit = fsdp_.parameters_.block_unit(layer);
  if (!fsdp_.is_sharded()) return on_gradient_ready(unit);
  unit.bind_gradients({});
  if (!fsdp_.options_.prefetch) {
    fsdp_.reduce(unit, gradients(layer));
    return on_gradient_ready(unit);
  }
  end_reduce(on_gradient_ready);
  reducing_ = &unit;
  pending_part_ = fsdp_.runtime_.groups.fsdp.reduce_scatter(gradients(layer), part_.rows(0, unit.gradient.elements()));
}

void BlockLoop::end_reduce(const OnGradientReady& on_gradient_ready) {
  if (reducing_ == nullptr) return;
  pending_part_.wait();
  fsdp_.runtime_.backend.add(part_.rows(0, reducing_->gradient.elements()), reducing_->gradient);
  on_gradient_ready(*std::exchange(reducing_, nullptr));
}

void BlockLoop::release(int64_t layer) {
  if (fsdp_.is_sharded()) fsdp_.parameters_.block_unit(layer).bind_values({});
}

}  // namespace llama_tp
