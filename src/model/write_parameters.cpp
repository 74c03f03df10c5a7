#include "model/write_parameters.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "base/convert_floats.h"
#include "base/parts.h"
#include "base/split_float.h"

namespace llama_tp {

std::vector<PlannedTensor> planned_tensors(const Parameters& parameters, DType dtype) {
  std::vector<PlannedTensor> planned;
  for (const Parameter& row : parameters.rows())
    if (row.file_row == 0) planned.push_back({row.name, dtype, row.file_extents()});
  return planned;
}

namespace {

constexpr int64_t gathering_bytes = int64_t{8} << 20;
constexpr float largest_f16 = 65504;

// What the file gets of one tensor: the bytes that are stored, or the values (bf16 weights of a training run: their f32
// masters, which are rounded once) as another type.
class Source {
 public:
  Source(const std::string& name, Tensor stored, Tensor rest, DType dtype, Backend& backend)
      : name_(name), stored_(stored), rest_(rest), dtype_(dtype), backend_(backend) {}

  int64_t element() const { return size_of(dtype_); }

  std::vector<char> read(const Piece& piece) const {
    std::vector<char> bytes(static_cast<size_t>(piece.count * element()));
    if (piece.count == 0) return bytes;
    if (stored_.dtype == dtype_) {
      backend_.download(piece.of(stored_), bytes.data());
      return bytes;
    }
    const std::vector<float> values = floats(piece);
    if (dtype_ == DType::f16) refuse_too_large(values);
    convert_floats(values.data(), DType::f32, bytes.data(), dtype_, piece.count);
    return bytes;
  }

 private:
  std::vector<float> floats(const Piece& piece) const {
    const auto count = static_cast<size_t>(piece.count);
    std::vector<float> values(count);
    if (stored_.dtype == DType::f32) {
      backend_.download(piece.of(stored_), values.data());
      return values;
    }
    std::vector<bf16> high(count);
    std::vector<int16_t> low(count);
    backend_.download(piece.of(stored_), high.data());
    backend_.download(piece.of(rest_), low.data());
    for (size_t i = 0; i < count; i++) values[i] = join({high[i], low[i]});
    return values;
  }

  void refuse_too_large(const std::vector<float>& values) const {
    for (const float value : values)
      require(std::abs(value) <= largest_f16, name_, ": a weight is ", value, ", and float16 ends at ", largest_f16,
              "; save with --save-dtype bfloat16 or float32");
  }

  std::string name_;
  Tensor stored_, rest_;
  DType dtype_;
  Backend& backend_;
};

// One parameter on its way from all ranks to the file's writer. Rank r of `ranks` is tensor rank r % tp of shard r /
// tp.
class Gathering {
 public:
  Gathering(const Parameters& parameters, const Parameter& row, Source source, HostGroup& ranks, int writer,
            SafetensorsWriter* file)
      : parameters_(parameters),
        row_(row),
        source_(std::move(source)),
        ranks_(ranks),
        shards_(parameters.unit_of(row).sharding.size),
        tp_(ranks.size() / shards_),
        writer_(writer),
        file_(file),
        sizes_(static_cast<size_t>(ranks.size())),
        places_(static_cast<size_t>(ranks.size())) {}

  void run() {
    const int64_t rows = row_.axis == 0 ? row_.stride : row_.shape[0];
    const int64_t step = std::max<int64_t>(1, gathering_bytes / (tp_ * row_bytes()));
    each_part(rows, step, [&](int64_t begin, int64_t count) { gather(begin, count); });
  }

 private:
  int64_t element() const { return source_.element(); }
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
    const std::vector<char> sent = source_.read(mine);
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
    return parameters_.unit_of(row_).piece(row_.weight->offset + (row_.weight_row + begin) * columns,
                                           rows_sent(rank % tp_, begin, rows) * columns, rank / tp_);
  }

  void put(int64_t first_row, const char* from, int64_t rows) {
    const int64_t width = row_.columns() * element();
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
  Source source_;
  HostGroup& ranks_;
  int shards_, tp_, writer_;
  SafetensorsWriter* file_;
  std::vector<int64_t> sizes_, places_;
};

}  // namespace

void write_parameters(const Parameters& parameters, Tensor Unit::*which, DType dtype, const SavePlan& plan,
                      const std::string& folder, Backend& backend, HostGroup& ranks, const std::vector<int>& writers) {
  for (size_t f = 0; f < plan.files.size(); f++) {
    const int writer = writers[f % writers.size()];
    std::unique_ptr<SafetensorsWriter> file;
    if (ranks.rank() == writer) file = std::make_unique<SafetensorsWriter>(folder, plan.files[f]);
    std::set<std::string> names;
    for (const StoredTensor& tensor : plan.files[f].tensors) names.insert(tensor.name);
    for (const Parameter& row : parameters.rows()) {
      if (!names.contains(row.name)) continue;
      const Unit& unit = parameters.unit_of(row);
      const Source source(row.name, unit.*which, which == &Unit::value ? unit.rest : Tensor{}, dtype, backend);
      Gathering(parameters, row, source, ranks, writer, file.get()).run();
    }
    if (file != nullptr) file->finish();
  }
}

void write_model(const Parameters& parameters, Tensor Unit::*which, DType dtype, const std::string& folder,
                 Backend& backend, HostGroup& ranks, const std::vector<int>& writers) {
  const SavePlan plan = plan_model(planned_tensors(parameters, dtype));
  write_parameters(parameters, which, dtype, plan, folder, backend, ranks, writers);
  if (ranks.rank() == 0 && !plan.index.empty()) write_text(folder + "/" + index_file_name, plan.index);
}

}  // namespace llama_tp
