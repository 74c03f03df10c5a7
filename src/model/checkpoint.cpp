#include "model/checkpoint.h"

#include <algorithm>
#include <set>

#include "base/convert_floats.h"
#include "base/random.h"
#include "base/split_float.h"

namespace llama_tp {

namespace {

constexpr int64_t staging_bytes = int64_t{8} << 20;

// This rank's part of a parameter as rows × columns of the file's tensor.
Region region_of(const Parameter& row) {
  const int64_t columns = row.columns();
  if (row.axis == 0) return {row.file_row + row.begin, row.file_row + row.begin + row.count, 0, columns};
  if (row.axis == 1) return {row.file_row, row.file_row + row.shape[0], row.begin, row.begin + row.count};
  return {row.file_row, row.file_row + row.shape[0], 0, columns};
}

// Calls fill(region of some rows, f32 buffer) and stores of it what this rank holds in one of the unit's tensors, a few
// MiB at a time. A bf16 tensor may have a rest that keeps the values' lower halves.
template <class Fill>
void store_rows(const Piece& piece, const Region& slice, const Tensor& stored, const Tensor& stored_rest,
                Backend& backend, Fill fill) {
  if (piece.count == 0) return;
  const int64_t columns = slice.columns(), end = piece.begin + piece.count;
  const int64_t end_row = (end + columns - 1) / columns;
  const int64_t step = std::max<int64_t>(1, staging_bytes / (columns * size_of(DType::f32)));
  const auto capacity = static_cast<size_t>(std::min(step, slice.rows()) * columns);
  std::vector<float> buffer(capacity);
  std::vector<bf16> high(stored.dtype == DType::bf16 ? capacity : 0);
  std::vector<int16_t> low(stored_rest.exists() ? capacity : 0);
  for (int64_t row = piece.begin / columns; row < end_row; row += step) {
    const int64_t rows = std::min(step, end_row - row);
    fill(Region{slice.row_begin + row, slice.row_begin + row + rows, slice.column_begin, slice.column_end},
         buffer.data());
    // A shard may begin and end inside a row.
    const int64_t from = std::max(piece.begin, row * columns), count = std::min(end, (row + rows) * columns) - from;
    const float* values = buffer.data() + (from - row * columns);
    const int64_t at = piece.at + from - piece.begin;
    if (stored.dtype == DType::f32) {
      backend.upload(values, stored.rows(at, count));
      continue;
    }
    if (!stored_rest.exists()) convert_floats(values, DType::f32, high.data(), DType::bf16, count);
    for (int64_t i = 0; stored_rest.exists() && i < count; i++) {
      const SplitFloat parts = split(values[i]);
      high[static_cast<size_t>(i)] = parts.high;
      low[static_cast<size_t>(i)] = parts.rest;
    }
    backend.upload(high.data(), stored.rows(at, count));
    if (stored_rest.exists()) backend.upload(low.data(), stored_rest.rows(at, count));
  }
}

template <class Fill>
void store_weight(const Parameters& parameters, const Parameter& row, Backend& backend, Fill fill) {
  const Unit& unit = parameters.unit_of(row);
  store_rows(parameters.piece(row), region_of(row), unit.value, unit.rest, backend, fill);
}

// A tensor that the model has no place for is a sign of a wrong config.json; the few that are known to be idle pass.
void refuse_unplaced(const ModelFiles& files, const ModelConfig& config, const Parameters& parameters) {
  std::set<std::string> placed;
  for (const Parameter& row : parameters.rows()) placed.insert(row.name);
  if (config.tied)
    for (const Module& module : config.family->modules)
      if (module.parts.front() == Part::head) placed.insert(module.name + ".weight");
  for (const std::string& name : files.names())
    require(placed.contains(name) || name.ends_with("rotary_emb.inv_freq"), files.folder(), ": tensor ", name,
            " has no place in the model that ", config.source, " describes; check its model_type and biases");
}

}  // namespace

void check_tensors(const ModelFiles& files, const ModelConfig& config, const Parameters& parameters,
                   std::optional<DType> dtype) {
  for (const Parameter& row : parameters.rows()) files.expect(row.name, row.file_extents(), dtype);
  refuse_unplaced(files, config, parameters);
}

void load_weights(const ModelFiles& files, const ModelConfig& config, Parameters& parameters, Backend& backend) {
  check_tensors(files, config, parameters);
  for (const Parameter& row : parameters.rows())
    store_weight(parameters, row, backend,
                 [&](const Region& region, float* to) { files.read(row.name, region, DType::f32, to); });
}

void load_masters(const ModelFiles& weights, const ModelFiles& rests, Parameters& parameters, Backend& backend) {
  std::vector<bf16> high;
  std::vector<int16_t> low;
  for (const Parameter& row : parameters.rows())
    store_weight(parameters, row, backend, [&](const Region& region, float* to) {
      const auto count = static_cast<size_t>(region.rows() * region.columns());
      high.resize(count);
      low.resize(count);
      weights.read(row.name, region, DType::bf16, high.data());
      rests.read(row.name, region, DType::i16, low.data());
      for (size_t i = 0; i < count; i++) to[i] = join({high[i], low[i]});
    });
}

void load_tensors(const ModelFiles& files, Tensor Unit::*which, Parameters& parameters, Backend& backend) {
  for (const Parameter& row : parameters.rows())
    store_rows(parameters.piece(row), region_of(row), parameters.unit_of(row).*which, {}, backend,
               [&](const Region& region, float* to) { files.read(row.name, region, DType::f32, to); });
}

void initialize_weights(const ModelConfig& config, uint64_t seed, Parameters& parameters, Backend& backend) {
  const auto deviation = static_cast<float>(config.initializer_range);
  for (const Parameter& row : parameters.rows()) {
    const uint64_t stream = stream_named(row.name);
    const int64_t width = row.columns();
    store_weight(parameters, row, backend, [&](const Region& region, float* to) {
      if (row.initial != Initial::normal) {
        std::fill_n(to, region.rows() * region.columns(), row.initial == Initial::ones ? 1.0f : 0.0f);
        return;
      }
#pragma omp parallel for
      for (int64_t r = 0; r < region.rows(); r++)
        fill_normal(to + r * region.columns(), region.columns(), deviation, seed, stream,
                    static_cast<uint64_t>((region.row_begin + r) * width + region.column_begin));
    });
  }
}

}  // namespace llama_tp
