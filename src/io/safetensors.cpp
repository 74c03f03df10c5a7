#include "io/safetensors.h"

#include <omp.h>

#include <algorithm>

#include "base/convert_floats.h"
#include "base/error.h"
#include "base/parts.h"
#include "io/for_each_item.h"

namespace llama_tp {

namespace {

// A thread's share of the staging stays in its second-level cache, so that staging costs little beside the page cache.
constexpr int64_t largest_thread_staging = 256 << 10;
// A system call costs about as much as copying this many bytes: smaller gaps between pieces are read along and dropped.
constexpr int64_t gap_worth_skipping = 2 << 10;

// One read as equal rows: row i has `columns` elements, at file_begin + i * file_stride bytes, and goes to
// to + i * to_bytes().
struct Rows {
  const File& file;
  DType from_dtype, to_dtype;
  int64_t count, columns;
  int64_t file_begin, file_stride;
  char* to;

  int64_t from_bytes() const { return columns * size_of(from_dtype); }
  int64_t to_bytes() const { return columns * size_of(to_dtype); }
};

// Rows that lie far apart, or one long row: each is read alone, in parts that fit the staging; unconverted, straight
// into `to`.
void read_row_by_row(const Rows& rows, int64_t staging) {
  const int64_t part_columns = std::min(rows.columns, staging / size_of(rows.from_dtype));
  const int64_t parts = ceil_div(rows.columns, part_columns);
  const bool direct = rows.from_dtype == rows.to_dtype;
  for_each_item(rows.count * parts, rows.count * rows.from_bytes(), direct ? 0 : staging,
                [&](int64_t item, char* buffer) {
                  const int64_t row = item / parts, column = item % parts * part_columns;
                  const int64_t columns = std::min(part_columns, rows.columns - column);
                  char* to = rows.to + row * rows.to_bytes() + column * size_of(rows.to_dtype);
                  rows.file.read(direct ? to : buffer, columns * size_of(rows.from_dtype),
                                 rows.file_begin + row * rows.file_stride + column * size_of(rows.from_dtype));
                  if (!direct) convert_floats(buffer, rows.from_dtype, to, rows.to_dtype, columns);
                });
}

// Rows with small gaps between them: as many as fit the staging come with one read, gaps included.
void read_many_rows_at_once(const Rows& rows, int64_t staging) {
  const int64_t group = std::max<int64_t>(1, (staging - rows.from_bytes()) / rows.file_stride + 1);
  const int64_t groups = ceil_div(rows.count, group);
  for_each_item(groups, rows.count * rows.file_stride, staging, [&](int64_t item, char* buffer) {
    const int64_t first = item * group, count = std::min(group, rows.count - first);
    rows.file.read(buffer, (count - 1) * rows.file_stride + rows.from_bytes(),
                   rows.file_begin + first * rows.file_stride);
    for (int64_t i = 0; i < count; i++)
      convert_floats(buffer + i * rows.file_stride, rows.from_dtype, rows.to + (first + i) * rows.to_bytes(),
                     rows.to_dtype, rows.columns);
  });
}

void check_region(const StoredTensor& tensor, const Region& region) {
  const bool inside = region.row_begin >= 0 && region.row_begin <= region.row_end && region.row_end <= tensor.rows() &&
                      region.column_begin >= 0 && region.column_begin <= region.column_end &&
                      region.column_end <= tensor.columns();
  require(inside, "rows [", region.row_begin, ", ", region.row_end, ") × columns [", region.column_begin, ", ",
          region.column_end, ") are not inside of its shape ", shape_text(tensor.shape));
}

SafetensorsHeader read_header(const File& file) {
  const int64_t size = file.size();
  require(size > safetensors_length_bytes, file.path(), ": has ", size,
          " bytes, too few for a safetensors file; copy it again");
  unsigned char bytes[safetensors_length_bytes];
  file.read(bytes, sizeof bytes, 0);
  uint64_t length = 0;
  for (size_t i = 0; i < sizeof bytes; i++) length |= uint64_t{bytes[i]} << 8 * i;
  require(length <= safetensors_largest_header, file.path(), ": claims a header of ", length, " bytes; at most ",
          safetensors_largest_header, " are allowed: not a safetensors file, or damaged");
  require(static_cast<int64_t>(length) <= size - safetensors_length_bytes, file.path(), ": claims a header of ", length,
          " bytes and has ", size - safetensors_length_bytes, " behind its length; the file is cut: copy it again");
  std::string text(static_cast<size_t>(length), '\0');
  file.read(text.data(), static_cast<int64_t>(length), safetensors_length_bytes);
  return parse_safetensors_header(file.path(), text, size);
}

}  // namespace

Region whole(const StoredTensor& tensor) { return {0, tensor.rows(), 0, tensor.columns()}; }

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(File::open(path)), header_(read_header(file_)) {
  for (const StoredTensor& tensor : header_.tensors) by_name_.emplace(tensor.name, &tensor);
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

void SafetensorsFile::read(const StoredTensor& tensor, const Region& region, DType dtype, void* to) const {
  try {
    check_region(tensor, region);
    require(converts(tensor.dtype(), dtype), "is ", tensor.dtype_name, ", which does not convert to ", name_of(dtype),
            "; F32, BF16 and F16 convert into each other");
  } catch (const Error& error) {
    fail(path(), ": tensor ", tensor.name, ": ", error.what());
  }
  if (region.rows() == 0 || region.columns() == 0) return;

  const int64_t from_size = size_of(tensor.dtype());
  Rows rows{file_,
            tensor.dtype(),
            dtype,
            region.rows(),
            region.columns(),
            tensor.offset + (region.row_begin * tensor.columns() + region.column_begin) * from_size,
            tensor.columns() * from_size,
            static_cast<char*>(to)};
  if (region.columns() == tensor.columns()) {  // no gaps: one long row
    rows.columns *= rows.count;
    rows.count = 1;
  }
  const int64_t staging = std::min(largest_thread_staging, staging_bytes / omp_get_max_threads() / 64 * 64);
  const int64_t gap = rows.file_stride - rows.from_bytes();
  if (rows.count > 1 && gap < gap_worth_skipping && 2 * rows.file_stride <= staging)
    read_many_rows_at_once(rows, staging);
  else
    read_row_by_row(rows, staging);
}

}  // namespace llama_tp
