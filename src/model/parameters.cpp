#include "model/parameters.h"

#include <algorithm>

#include "model/runtime.h"

namespace llama_tp {

std::vector<int64_t> Parameter::file_extents() const {
  std::vector<int64_t> extents;
  for (int i = 0; i < file_shape.rank(); i++) extents.push_back(file_shape[i]);
  return extents;
}

Piece Unit::piece(int64_t first, int64_t count, int rank) const {
  const int64_t shard_begin = rank * shard_elements(), shard_end = shard_begin + shard_elements();
  const int64_t begin = std::max(first, shard_begin), end = std::min(first + count, shard_end);
  return begin < end ? Piece{begin - first, end - begin, begin - shard_begin} : Piece{};
}

OptimizerTensors Unit::optimizer_tensors(const Piece& piece) const {
  return {piece.of(value), rest.exists() ? piece.of(rest) : Tensor{}, piece.of(gradient), piece.of(m), piece.of(v)};
}

namespace {

Tensor view(const Tensor& whole, const Weight& weight) {
  return whole.exists() ? whole.rows(weight.offset, weight.shape.elements()).reshaped(weight.shape) : Tensor{};
}

}  // namespace

void Unit::bind_values(const Tensor& whole) const {
  for (Weight* weight : weights) weight->value = view(whole, *weight);
}

void Unit::bind_gradients(const Tensor& whole) const {
  for (Weight* weight : weights) weight->gradient = view(whole, *weight);
}

Piece Parameters::piece(const Parameter& row, int shard) const {
  const int64_t columns = row.slice_columns();
  return unit_of(row).piece(row.weight->offset + row.weight_row * columns, row.slice_rows() * columns, shard);
}

Parameters& Parameters::allocate(Runtime& runtime, Holds holds) {
  allocate(runtime.state, runtime.dtype, holds, {runtime.groups.fsdp.rank(), runtime.groups.fsdp.size()});
  return *this;
}

void Parameters::allocate(Arena& state, DType dtype, Holds holds, Sharding sharding) {
  const bool trains = holds == Holds::training_state;
  for (Unit& unit : units_) {
    unit.sharding = sharding;
    const Weight& last = *unit.weights.back();
    unit.elements = round_up(last.offset + last.shape.elements(), sharding.size * alignment_elements);
    const auto take = [&](Category category, DType type) {
      return state.push(category, {unit.shard_elements()}, type);
    };
    unit.value = take(Category::parameters, dtype);
    unit.rest = trains && dtype == DType::bf16 ? take(Category::master_weights, DType::i16) : Tensor{};
    unit.gradient = trains ? take(Category::gradients, DType::f32) : Tensor{};
    unit.m = trains ? take(Category::moments, DType::f32) : Tensor{};
    unit.v = trains ? take(Category::moments, DType::f32) : Tensor{};
    if (sharding.size > 1) continue;
    unit.bind_values(unit.value);
    unit.bind_gradients(unit.gradient);
  }
}

int64_t parameter_count(const ModelConfig& config) {
  const Parameters whole(config, 0, 1);
  int64_t count = 0;
  for (const Parameter& row : whole.rows()) count += row.shape.elements();
  return count;
}

}  // namespace llama_tp
