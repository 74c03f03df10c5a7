// Reads slices of the tensors of a safetensors file: only the bytes that are asked for, by pread through a small
// staging buffer, converted on the way into the caller's memory. Nothing is mapped and no tensor is ever held whole.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/files.h"
#include "io/safetensors_header.h"

namespace llama_tp {

// Rows [row_begin, row_end) × columns [column_begin, column_end) of a tensor seen as a matrix (StoredTensor::rows,
// columns).
struct Region {
  int64_t row_begin = 0, row_end = 0;
  int64_t column_begin = 0, column_end = 0;

  int64_t rows() const { return row_end - row_begin; }
  int64_t columns() const { return column_end - column_begin; }
};

Region whole(const StoredTensor& tensor);

// The staging of one read, all threads together.
constexpr int64_t staging_bytes = 8 << 20;

class SafetensorsFile {
 public:
  // Reads and checks the header. Errors: whatever is wrong with it, with the file's name.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<StoredTensor>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  // nullptr where the file has no such tensor.
  const StoredTensor* find(std::string_view name) const;

  // The region's elements as `dtype`, row after row. `tensor` is one of this file's. Large regions are read by all
  // OpenMP threads. Errors: a region outside of the tensor, types that do not convert, a file that was cut meanwhile.
  void read(const StoredTensor& tensor, const Region& region, DType dtype, void* to) const;

 private:
  File file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, const StoredTensor*> by_name_;  // views of the names in header_
};

}  // namespace llama_tp
