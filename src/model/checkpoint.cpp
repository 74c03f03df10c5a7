#include "model/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>

#include "base/convert_floats.h"
#include "base/random.h"
#include "base/split_float.h"

namespace llama_tp {

namespace {

constexpr int64_t reading_bytes = int64_t{8} << 20;
constexpr int64_t splits_worth_threads = int64_t{1} << 16;

// This rank's part of a parameter as rows × columns of the file's tensor.
Region region_of(const Parameter& row) {
  const int64_t columns = row.columns();
  if (row.axis == 0) return {row.file_row + row.begin, row.file_row + row.begin + row.count, 0, columns};
  if (row.axis == 1) return {row.file_row, row.file_row + row.shape[0], row.begin, row.begin + row.count};
  return {row.file_row, row.file_row + row.shape[0], 0, columns};
}

// Calls work(region of the file's tensor, where its first element is stored) for what a rank holds of a slice: whole
// rows, at most `most` of them at once, and parts of rows where its shard begins and ends inside of one.
template <class Work>
void for_each_region(const Piece& piece, const Region& slice, int64_t most, Work work) {
  const int64_t columns = slice.columns(), end = piece.begin + piece.count;
  for (int64_t from = piece.begin, count = 0; from < end; from += count) {
    const int64_t row = slice.row_begin + from / columns, column = slice.column_begin + from % columns;
    const bool is_whole = from % columns == 0 && end - from >= columns;
    const int64_t rows = is_whole ? std::min(most, (end - from) / columns) : 1;
    count = is_whole ? rows * columns : std::min(columns - from % columns, end - from);
    work(Region{row, row + rows, column, column + count / rows}, piece.at + from - piece.begin);
  }
}

int64_t rows_of_staging(const Region& slice, DType dtype) {
  return std::clamp<int64_t>(reading_bytes / (slice.columns() * size_of(dtype)), 1, slice.rows());
}

// The tensor that fills a parameter. Of a tied pair the files may hold the head's alone: safetensors' save_model keeps
// one of two names that share memory.
const std::string& stored_name(const ModelFiles& files, const Parameter& row) {
  const bool by_head =
      !row.tied_name.empty() && files.find(row.name) == nullptr && files.find(row.tied_name) != nullptr;
  return by_head ? row.tied_name : row.name;
}

// Reads what this rank holds of a parameter, converted on the way, into one of the unit's tensors: into place where the
// host can, else a few MiB at a time.
void read_tensor(const ModelFiles& files, const Parameter& row, const Piece& piece, const Tensor& stored,
                 Backend& backend) {
  const Region slice = region_of(row);
  const std::string& name = stored_name(files, row);
  const bool into_place = backend.is_host();
  const int64_t step = into_place ? slice.rows() : rows_of_staging(slice, stored.dtype);
  std::vector<char> staging(into_place ? 0 : static_cast<size_t>(step * slice.columns() * size_of(stored.dtype)));
  for_each_region(piece, slice, step, [&](const Region& region, int64_t at) {
    const Tensor part = stored.rows(at, region.rows() * region.columns());
    files.read(name, region, stored.dtype, into_place ? part.data : staging.data());
    if (!into_place) backend.upload(staging.data(), part);
  });
}

// Calls fill(region, f32 buffer) and stores of it what this rank holds in one of the unit's tensors, a few MiB at a
// time. A bf16 tensor may have a rest that keeps the values' lower halves.
template <class Fill>
void store_rows(const Piece& piece, const Region& slice, const Tensor& stored, const Tensor& stored_rest,
                Backend& backend, Fill fill) {
  const int64_t step = rows_of_staging(slice, DType::f32);
  const auto capacity = static_cast<size_t>(step * slice.columns());
  const auto values = std::make_unique_for_overwrite<float[]>(capacity);
  const auto high = std::make_unique_for_overwrite<bf16[]>(stored.dtype == DType::bf16 ? capacity : 0);
  const auto low = std::make_unique_for_overwrite<int16_t[]>(stored_rest.exists() ? capacity : 0);
  for_each_region(piece, slice, step, [&](const Region& region, int64_t at) {
    const int64_t count = region.rows() * region.columns();
    fill(region, values.get());
    if (stored.dtype == DType::f32) {
      backend.upload(values.get(), stored.rows(at, count));
      return;
    }
    if (!stored_rest.exists()) {
      convert_floats(values.get(), DType::f32, high.get(), DType::bf16, count);
    } else {
#pragma omp parallel for if (count > splits_worth_threads)
      for (int64_t i = 0; i < count; i++) {
        const SplitFloat parts = split(values[static_cast<size_t>(i)]);
        high[static_cast<size_t>(i)] = parts.high;
        low[static_cast<size_t>(i)] = parts.rest;
      }
      backend.upload(low.get(), stored_rest.rows(at, count));
    }
    backend.upload(high.get(), stored.rows(at, count));
  });
}

template <class Fill>
void store_weight(const Parameters& parameters, const Parameter& row, Backend& backend, Fill fill) {
  const Unit& unit = parameters.unit_of(row);
  store_rows(parameters.piece(row), region_of(row), unit.value, unit.rest, backend, fill);
}

// What says which tensors there are.
std::string origin_of(const ModelConfig& config) {
  return config.family->text.empty() ? config.source : text(config.source, " and family ", config.family->name);
}

// A tensor that the model has no place for is a sign of a wrong config.json; the few that are known to be idle pass.
void refuse_unplaced(const ModelFiles& files, const ModelConfig& config, const Parameters& parameters) {
  std::set<std::string> placed;
  for (const Parameter& row : parameters.rows()) placed.insert({row.name, row.tied_name});
  for (const std::string& name : files.names())
    require(placed.contains(name) || name.ends_with("rotary_emb.inv_freq"), files.folder(), ": tensor ", name,
            " has no place in the model of ", origin_of(config), "; check ",
            config.family->text.empty() ? "its model_type" : "the modules", " and biases");
}

// Are the bytes of this rank's slice the same in two tensors of one shape and type?
bool same_bytes(const ModelFiles& files, const Parameter& row, DType dtype) {
  const Region slice = region_of(row);
  const int64_t step = rows_of_staging(slice, dtype);
  std::vector<char> one(static_cast<size_t>(step * slice.columns() * size_of(dtype))), other(one.size());
  for (int64_t begin = slice.row_begin; begin < slice.row_end; begin += step) {
    const Region part{begin, std::min(begin + step, slice.row_end), slice.column_begin, slice.column_end};
    files.read(row.name, part, dtype, one.data());
    files.read(row.tied_name, part, dtype, other.data());
    if (std::memcmp(one.data(), other.data(), static_cast<size_t>(part.rows() * part.columns() * size_of(dtype))) != 0)
      return false;
  }
  return true;
}

// A head that was trained apart from the embedding it is tied to would be lost without a word. Each rank looks at its
// slice.
void refuse_other_head(const ModelFiles& files, const ModelConfig& config, const Parameter& row) {
  const StoredTensor *embedding = files.find(row.name), *head = files.find(row.tied_name);
  if (row.tied_name.empty() || embedding == nullptr || head == nullptr) return;
  const bool same = head->shape == embedding->shape && head->dtype_name == embedding->dtype_name &&
                    same_bytes(files, row, embedding->dtype());
  require(same, files.folder(), ": ", config.family->text.empty() ? "tie_word_embeddings" : "tied", " is true, but ",
          row.tied_name, " differs from ", row.name, "; make it false in ", origin_of(config));
}

}  // namespace

void check_tensor_headers(const ModelFiles& files, const ModelConfig& config, const Parameters& parameters,
                          std::optional<DType> dtype) {
  for (const Parameter& row : parameters.rows())
    files.expect(stored_name(files, row), row.file_extents(), origin_of(config), dtype);
  refuse_unplaced(files, config, parameters);
}

void check_tensors(const ModelFiles& files, const ModelConfig& config, const Parameters& parameters,
                   std::optional<DType> dtype) {
  check_tensor_headers(files, config, parameters, dtype);
  for (const Parameter& row : parameters.rows()) refuse_other_head(files, config, row);
}

void load_weights(const ModelFiles& files, const ModelConfig& config, Parameters& parameters, Backend& backend) {
  check_tensors(files, config, parameters);
  for (const Parameter& row : parameters.rows()) {
    const Unit& unit = parameters.unit_of(row);
    const Piece piece = parameters.piece(row);
    const std::string& name = stored_name(files, row);
    if (unit.rest.exists() && files.find(name)->dtype() != unit.value.dtype) {
      store_weight(parameters, row, backend,
                   [&](const Region& region, float* to) { files.read(name, region, DType::f32, to); });
      continue;
    }
    read_tensor(files, row, piece, unit.value, backend);
    if (unit.rest.exists() && piece.count > 0) backend.zero(piece.of(unit.rest));  // a bf16 value is its own master
  }
}

void load_masters(const ModelFiles& weights, const ModelFiles& rests, Parameters& parameters, Backend& backend) {
  std::vector<bf16> high;
  std::vector<int16_t> low;
  for (const Parameter& row : parameters.rows()) {
    const Unit& unit = parameters.unit_of(row);
    if (unit.rest.exists()) {
      read_tensor(weights, row, parameters.piece(row), unit.value, backend);
      read_tensor(rests, row, parameters.piece(row), unit.rest, backend);
      continue;
    }
    store_weight(parameters, row, backend, [&](const Region& region, float* to) {
      const auto count = static_cast<size_t>(region.rows() * region.columns());
      high.resize(count);
      low.resize(count);
      weights.read(row.name, region, DType::bf16, high.data());
      rests.read(row.name, region, DType::i16, low.data());
      for (size_t i = 0; i < count; i++) to[i] = join({high[i], low[i]});
    });
  }
}

void load_tensors(const ModelFiles& files, Tensor Unit::*which, Parameters& parameters, Backend& backend) {
  for (const Parameter& row : parameters.rows())
    read_tensor(files, row, parameters.piece(row), parameters.unit_of(row).*which, backend);
}

void initialize_weights(const ModelConfig& config, uint64_t seed, Parameters& parameters, Backend& backend) {
  const auto deviation = static_cast<float>(config.initializer_range);
  // As torch's padding_idx begins; no gradient of the embedding ever reaches it.
  const auto is_padding = [&](const Parameter& row, int64_t at) {
    return row.weight == &parameters.embedding() && config.pad_id == at;
  };
  for (const Parameter& row : parameters.rows()) {
    const uint64_t stream = stream_named(row.name);
    const int64_t width = row.columns();
    store_weight(parameters, row, backend, [&](const Region& region, float* to) {
      if (row.initial != Initial::normal) {
        std::fill_n(to, region.rows() * region.columns(), row.initial == Initial::ones ? 1.0f : 0.0f);
        return;
      }
#pragma omp parallel for
      for (int64_t r = 0; r < region.rows(); r++) {
        const int64_t at = region.row_begin + r;
        float* values = to + r * region.columns();
        if (is_padding(row, at))
          std::fill_n(values, region.columns(), 0.0f);
        else
          fill_normal(values, region.columns(), deviation, seed, stream,
                      static_cast<uint64_t>(at * width + region.column_begin));
      }
    });
  }
}

}  // namespace llama_tp
