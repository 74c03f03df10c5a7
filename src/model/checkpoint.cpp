#include "model/checkpoint.h"

#include <algorithm>
#include <memory>
#include <set>

#include "base/random.h"
#include "base/split_float.h"

namespace llama_tp {

namespace {

constexpr int64_t staging_bytes = int64_t{8} << 20;

int64_t columns_of_shape(const Shape& shape) { return shape.rank() > 1 ? shape[1] : 1; }

std::vector<int64_t> extents(const Shape& shape) {
  std::vector<int64_t> out;
  for (int axis = 0; axis < shape.rank(); axis++) out.push_back(shape[axis]);
  return out;
}

// This rank's part of a parameter as rows × columns of the file's tensor.
Region region_of(const Parameter& row) {
  const int64_t columns = columns_of_shape(row.shape);
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
    for (int64_t i = 0; i < count; i++) {
      const auto to = static_cast<size_t>(i);
      const SplitFloat parts = split(values[i]);
      high[to] = stored_rest.exists() ? parts.high : to_bf16(values[i]);
      if (stored_rest.exists()) low[to] = parts.rest;
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
  for (const Parameter& row : parameters.rows()) files.expect(row.name, extents(row.file_shape), dtype);
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
    const int64_t width = columns_of_shape(row.file_shape);
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

std::vector<PlannedTensor> planned_tensors(const Parameters& parameters, DType dtype) {
  std::vector<PlannedTensor> planned;
  for (const Parameter& row : parameters.rows())
    if (row.file_row == 0) planned.push_back({row.name, dtype, extents(row.file_shape)});
  return planned;
}

namespace {

// One parameter on its way from all ranks to the file's writer. Rank r of `ranks` is tensor rank r % tp of shard r /
// tp.
class Gathering {
 public:
  Gathering(const Parameters& parameters, const Parameter& row, Tensor stored, Backend& backend, HostGroup& ranks,
            int writer, SafetensorsWriter* file)
      : parameters_(parameters),
        row_(row),
        stored_(std::move(stored)),
        backend_(backend),
        ranks_(ranks),
        shards_(parameters.unit_of(row).sharding.size),
        tp_(ranks.size() / shards_),
        writer_(writer),
        file_(file),
        sizes_(static_cast<size_t>(ranks.size())),
        places_(static_cast<size_t>(ranks.size())) {}

  void run() {
    const int64_t rows = row_.axis == 0 ? row_.stride : row_.shape[0];
    const int64_t step = std::max<int64_t>(1, staging_bytes / (tp_ * row_bytes()));
    for (int64_t begin = 0; begin < rows; begin += step) gather(begin, std::min(step, rows - begin));
  }

 private:
  int64_t element() const { return size_of(stored_.dtype); }
  int64_t row_bytes() const { return row_.slice_columns() * element(); }

  // Rows [begin, begin + rows) of every tensor rank's slice, whichever shards hold them.
  void gather(int64_t begin, int64_t rows) {
    const int64_t slice_bytes = rows * row_bytes();
    Piece mine;
    for (int rank = 0; rank < ranks_.size(); rank++) {
      const Piece piece = piece_of(rank, begin, rows);
      if (rank == ranks_.rank()) mine = piece;
      sizes_[static_cast<size_t>(rank)] = piece.count * element();
      places_[static_cast<size_t>(rank)] = rank % tp_ * slice_bytes + piece.begin * element();
    }
    std::vector<char> sent(static_cast<size_t>(mine.count * element()));
    if (mine.count > 0) backend_.download(mine.of(stored_), sent.data());
    std::vector<char> slices(writes() ? static_cast<size_t>(tp_ * slice_bytes) : 0);
    ranks_.gather(sent, sizes_, places_, slices, writer_);
    if (!writes()) return;
    if (row_.axis == 1) {
      put_interleaved(begin, rows, slices);
      return;
    }
    for (int rank = 0; rank < tp_; rank++)
      if (const int64_t count = rows_sent(rank, begin, rows); count > 0)
        put(begin + (row_.axis == 0 ? first_row_of(rank) : 0), slices.data() + rank * slice_bytes, count);
  }

  bool writes() const { return ranks_.rank() == writer_; }

  // Of what several tensor ranks hold, one sends: the writer, where all of them do.
  int64_t rows_sent(int tensor_rank, int64_t begin, int64_t rows) const {
    if (row_.axis < 0) return tensor_rank == writer_ % tp_ ? rows : 0;
    if (tensor_rank % row_.replicas != 0) return 0;
    if (row_.axis == 1) return rows;
    const int64_t count = first_row_of(tensor_rank + row_.replicas) - first_row_of(tensor_rank);
    return std::clamp<int64_t>(count - begin, 0, rows);
  }

  int64_t first_row_of(int64_t tensor_rank) const {
    return std::min(row_.stride * (tensor_rank / row_.replicas), row_.shape[0]);
  }

  // Relative to the slice's row `begin`.
  Piece piece_of(int rank, int64_t begin, int64_t rows) const {
    const int64_t columns = row_.slice_columns();
    return parameters_.unit_of(row_).piece(row_.weight->offset + (row_.row + begin) * columns,
                                           rows_sent(rank % tp_, begin, rows) * columns, rank / tp_);
  }

  void put(int64_t first_row, const char* from, int64_t rows) {
    const int64_t width = columns_of_shape(row_.shape) * element();
    file_->write(row_.name, (row_.file_row + first_row) * width, from, rows * width);
  }

  void put_interleaved(int64_t begin, int64_t rows, const std::vector<char>& slices) {
    std::vector<char> joined(slices.size());
    const int64_t part = row_bytes();
    for (int64_t r = 0; r < rows; r++)
      for (int64_t rank = 0; rank < tp_; rank++)
        std::copy_n(slices.data() + (rank * rows + r) * part, part, joined.data() + (r * tp_ + rank) * part);
    put(begin, joined.data(), rows);
  }

  const Parameters& parameters_;
  const Parameter& row_;
  Tensor stored_;
  Backend& backend_;
  HostGroup& ranks_;
  int shards_, tp_, writer_;
  SafetensorsWriter* file_;
  std::vector<int64_t> sizes_, places_;
};

}  // namespace

void write_parameters(const Parameters& parameters, Tensor Unit::*which, DType dtype, const SavePlan& plan,
                      const std::string& folder, Backend& backend, HostGroup& ranks) {
  for (size_t f = 0; f < plan.files.size(); f++) {
    const int writer = static_cast<int>(f) % ranks.size();
    std::unique_ptr<SafetensorsWriter> file;
    if (ranks.rank() == writer) file = std::make_unique<SafetensorsWriter>(folder, plan.files[f]);
    std::set<std::string> names;
    for (const StoredTensor& tensor : plan.files[f].tensors) names.insert(tensor.name);
    for (const Parameter& row : parameters.rows()) {
      if (!names.contains(row.name)) continue;
      const Tensor& stored = parameters.unit_of(row).*which;
      require(stored.dtype == dtype, row.name, ": stored as ", name_of(stored.dtype), ", planned as ", name_of(dtype));
      Gathering(parameters, row, stored, backend, ranks, writer, file.get()).run();
    }
    if (file != nullptr) file->finish();
  }
}

}  // namespace llama_tp
