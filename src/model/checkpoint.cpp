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

// Calls fill(region of some rows, f32 buffer) and stores what it gave in one of the parameter's tensors, a few MiB at a
// time. A bf16 tensor may have a rest that keeps the values' lower halves.
template <class Fill>
void store_rows(const Parameter& row, const Tensor& stored, const Tensor& stored_rest, Backend& backend, Fill fill) {
  const Region all = region_of(row);
  if (all.rows() == 0 || all.columns() == 0) return;
  const Tensor value = row.of(stored);
  const Tensor rest = stored_rest.exists() ? row.of(stored_rest) : Tensor{};
  const int64_t step = std::max<int64_t>(1, staging_bytes / (all.columns() * size_of(DType::f32)));
  const auto capacity = static_cast<size_t>(std::min(step, all.rows()) * all.columns());
  std::vector<float> buffer(capacity);
  std::vector<bf16> high(value.dtype == DType::bf16 ? capacity : 0);
  std::vector<int16_t> low(rest.exists() ? capacity : 0);
  for (int64_t begin = 0; begin < all.rows(); begin += step) {
    const int64_t rows = std::min(step, all.rows() - begin);
    fill(Region{all.row_begin + begin, all.row_begin + begin + rows, all.column_begin, all.column_end}, buffer.data());
    if (value.dtype == DType::f32) {
      backend.upload(buffer.data(), value.rows(begin, rows));
      continue;
    }
    for (int64_t i = 0; i < rows * all.columns(); i++) {
      const auto at = static_cast<size_t>(i);
      const SplitFloat parts = split(buffer[at]);
      high[at] = rest.exists() ? parts.high : to_bf16(buffer[at]);
      if (rest.exists()) low[at] = parts.rest;
    }
    backend.upload(high.data(), value.rows(begin, rows));
    if (rest.exists()) backend.upload(low.data(), rest.rows(begin, rows));
  }
}

template <class Fill>
void store_weight(const Parameter& row, Backend& backend, Fill fill) {
  store_rows(row, row.weight->value, row.weight->rest, backend, fill);
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
    store_weight(row, backend, [&](const Region& region, float* to) { files.read(row.name, region, DType::f32, to); });
}

void load_masters(const ModelFiles& weights, const ModelFiles& rests, Parameters& parameters, Backend& backend) {
  std::vector<bf16> high;
  std::vector<int16_t> low;
  for (const Parameter& row : parameters.rows())
    store_weight(row, backend, [&](const Region& region, float* to) {
      const auto count = static_cast<size_t>(region.rows() * region.columns());
      high.resize(count);
      low.resize(count);
      weights.read(row.name, region, DType::bf16, high.data());
      rests.read(row.name, region, DType::i16, low.data());
      for (size_t i = 0; i < count; i++) to[i] = join({high[i], low[i]});
    });
}

void load_tensors(const ModelFiles& files, Tensor Weight::*which, Parameters& parameters, Backend& backend) {
  for (const Parameter& row : parameters.rows())
    store_rows(row, row.weight->*which, {}, backend,
               [&](const Region& region, float* to) { files.read(row.name, region, DType::f32, to); });
}

void initialize_weights(const ModelConfig& config, uint64_t seed, Parameters& parameters, Backend& backend) {
  const auto deviation = static_cast<float>(config.initializer_range);
  for (const Parameter& row : parameters.rows()) {
    const uint64_t stream = stream_named(row.name);
    const int64_t width = columns_of_shape(row.file_shape);
    store_weight(row, backend, [&](const Region& region, float* to) {
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

// One parameter on its way from all ranks to the file's writer.
class Gathering {
 public:
  Gathering(const Parameter& row, Tensor stored, Backend& backend, HostGroup& tp, int writer, SafetensorsWriter* file)
      : row_(row), stored_(std::move(stored)), backend_(backend), tp_(tp), writer_(writer), file_(file) {}

  void run() {
    if (row_.axis < 0) {
      whole();
      return;
    }
    const int64_t rows = row_.axis == 0 ? row_.stride : row_.shape[0];
    const int64_t step = std::max<int64_t>(1, staging_bytes / (tp_.size() * row_bytes()));
    for (int64_t begin = 0; begin < rows; begin += step) pieces(begin, std::min(step, rows - begin));
  }

 private:
  int64_t element() const { return size_of(stored_.dtype); }
  int64_t local_columns() const { return row_.axis == 1 ? row_.count : columns_of_shape(row_.shape); }
  int64_t row_bytes() const { return local_columns() * element(); }
  void put(int64_t first_row, const char* from, int64_t rows) {
    const int64_t width = columns_of_shape(row_.shape) * element();
    file_->write(row_.name, (row_.file_row + first_row) * width, from, rows * width);
  }

  void whole() {
    if (tp_.rank() != writer_) return;
    const int64_t step = std::max<int64_t>(1, staging_bytes / row_bytes());
    std::vector<char> buffer(static_cast<size_t>(std::min(step, row_.shape[0]) * row_bytes()));
    for (int64_t begin = 0; begin < row_.shape[0]; begin += step) {
      const int64_t rows = std::min(step, row_.shape[0] - begin);
      backend_.download(row_.of(stored_).rows(begin, rows), buffer.data());
      put(begin, buffer.data(), rows);
    }
  }

  // Rows [begin, begin + rows) of every rank's part.
  void pieces(int64_t begin, int64_t rows) {
    const auto piece_bytes = static_cast<size_t>(rows * row_bytes());
    std::vector<char> piece(piece_bytes),
        all(tp_.rank() == writer_ ? piece_bytes * static_cast<size_t>(tp_.size()) : 0);
    const Tensor mine = row_.of(stored_);
    const int64_t have = std::clamp<int64_t>(mine.shape[0] - begin, 0, rows);
    if (have > 0) backend_.download(mine.rows(begin, have), piece.data());
    tp_.gather(piece, all, writer_);
    if (tp_.rank() != writer_) return;
    if (row_.axis == 0) {
      for (int rank = 0; rank < tp_.size(); rank += static_cast<int>(row_.replicas))
        put_slice_of(rank, begin, rows, all.data() + piece_bytes * static_cast<size_t>(rank));
    } else {
      put_interleaved(begin, rows, all);
    }
  }

  void put_slice_of(int rank, int64_t begin, int64_t rows, const char* from) {
    const int64_t first = first_row_of(rank), count = first_row_of(rank + static_cast<int>(row_.replicas)) - first;
    const int64_t existing = std::clamp<int64_t>(count - begin, 0, rows);
    if (existing > 0) put(first + begin, from, existing);
  }

  int64_t first_row_of(int rank) const { return std::min(row_.stride * (rank / row_.replicas), row_.shape[0]); }

  void put_interleaved(int64_t begin, int64_t rows, const std::vector<char>& all) {
    std::vector<char> joined(all.size());
    const int64_t part = row_bytes(), ranks = tp_.size();
    for (int64_t r = 0; r < rows; r++)
      for (int64_t rank = 0; rank < ranks; rank++)
        std::copy_n(all.data() + (rank * rows + r) * part, part, joined.data() + (r * ranks + rank) * part);
    put(begin, joined.data(), rows);
  }

  const Parameter& row_;
  Tensor stored_;
  Backend& backend_;
  HostGroup& tp_;
  int writer_;
  SafetensorsWriter* file_;
};

}  // namespace

void write_parameters(const Parameters& parameters, Tensor Weight::*which, DType dtype, const SavePlan& plan,
                      const std::string& folder, Backend& backend, HostGroup& tp) {
  for (size_t f = 0; f < plan.files.size(); f++) {
    const int writer = static_cast<int>(f) % tp.size();
    std::unique_ptr<SafetensorsWriter> file;
    if (tp.rank() == writer) file = std::make_unique<SafetensorsWriter>(folder, plan.files[f]);
    std::set<std::string> names;
    for (const StoredTensor& tensor : plan.files[f].tensors) names.insert(tensor.name);
    for (const Parameter& row : parameters.rows()) {
      if (!names.contains(row.name)) continue;
      const Tensor& stored = row.weight->*which;
      require(stored.dtype == dtype, row.name, ": stored as ", name_of(stored.dtype), ", planned as ", name_of(dtype));
      Gathering(row, stored, backend, tp, writer, file.get()).run();
    }
    if (file != nullptr) file->finish();
  }
}

}  // namespace llama_tp
