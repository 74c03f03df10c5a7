// A text file as batches of lines, read by pread in blocks, so that a file of any length takes little memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/files.h"

namespace llama_tp {

struct Line {
  int64_t number = 0;     // from 1
  std::string_view text;  // without its end, \n or \r\n
};

class LineReader {
 public:
  // Errors: as File::open.
  explicit LineReader(const std::string& path, int64_t batch_bytes = 16 << 20);

  int64_t file_bytes() const { return file_bytes_; }
  // Bytes of all lines given so far.
  int64_t bytes_done() const { return offset_ - static_cast<int64_t>(kept_); }

  // The next whole lines, about batch_bytes of them, at least one; none at the end. They live until the next call.
  std::vector<Line> next();

 private:
  bool fill();

  File file_;
  int64_t file_bytes_, batch_bytes_;
  int64_t offset_ = 0;       // of the first byte that is not in the buffer yet
  int64_t line_number_ = 0;  // of the last line given
  std::string buffer_;
  size_t given_ = 0;  // bytes of the buffer that are in lines given
  size_t kept_ = 0;   // bytes behind those: the begin of a line
};

}  // namespace llama_tp
