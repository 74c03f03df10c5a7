// The header of a safetensors file: a JSON object of names, types, shapes and byte ranges that must tile the file
// exactly. https://github.com/huggingface/safetensors#format — whatever its reference implementation refuses is refused
// here, by name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace llama_tp {

// Eight bytes before the header hold its length, little-endian.
constexpr int64_t safetensors_length_bytes = 8;
constexpr int64_t safetensors_largest_header = 100'000'000;

// A tensor of a file. As a matrix it is [rows, columns]: the first dimension × all others; a scalar is [1, 1], a vector
// [n, 1].
struct StoredTensor {
  std::string name;
  std::string
      dtype_name;  // the format's word; some (BOOL, F8_E4M3, …) are listed though this program does not read them
  std::vector<int64_t> shape;
  int64_t offset = 0;  // of the first byte, in the file
  int64_t bytes = 0;

  // Errors: a type that this program does not read.
  DType dtype() const;
  // F32, BF16 or F16: what weights are read as.
  bool is_floating() const { return dtype_name == "F32" || dtype_name == "BF16" || dtype_name == "F16"; }
  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t columns() const;
};

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

struct SafetensorsHeader {
  std::vector<StoredTensor> tensors;            // in the order of their bytes
  std::map<std::string, std::string> metadata;  // what __metadata__ holds
};

// Reads `text`, the header's text without its length, of a file of `file_bytes` bytes; `path` is for messages.
// Errors: everything that does not fit, with the tensor's name and the numbers.
SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text, int64_t file_bytes);

// The first bytes of a file that holds the tensors in this order, one after the other: length, JSON, spaces up to 8
// bytes. Fills in offset and bytes of each; `file` is for messages. Errors: a name twice, more than the largest header.
std::string make_safetensors_header(const std::string& file, std::vector<StoredTensor>& tensors,
                                    const std::map<std::string, std::string>& metadata);

}  // namespace llama_tp
