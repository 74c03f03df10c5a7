#include "io/lines.h"

#include <algorithm>

namespace llama_tp {

LineReader::LineReader(const std::string& path, int64_t batch_bytes)
    : file_(File::open(path)), file_bytes_(file_.size()), batch_bytes_(batch_bytes) {}

// Moves the begun line to the front and reads on behind it. False at the end of the file.
bool LineReader::fill() {
  const int64_t bytes = std::min(batch_bytes_, file_bytes_ - offset_);
  buffer_.erase(0, given_);
  given_ = 0;
  if (bytes == 0) return false;
  buffer_.resize(kept_ + static_cast<size_t>(bytes));
  file_.read(buffer_.data() + kept_, bytes, offset_);
  offset_ += bytes;
  kept_ = buffer_.size();
  return true;
}

std::vector<Line> LineReader::next() {
  std::vector<Line> lines;
  size_t end = std::string::npos;
  while (end == std::string::npos) {
    const bool more = fill();
    if (!more && buffer_.empty()) return lines;
    end = more ? buffer_.rfind('\n') : buffer_.size() - 1;  // the last line may lack its end
  }
  for (size_t begin = 0; begin <= end;) {
    const size_t newline = std::min(buffer_.find('\n', begin), buffer_.size());
    std::string_view line(buffer_.data() + begin, newline - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back({++line_number_, line});
    begin = newline + 1;
  }
  given_ = end + 1;
  kept_ = buffer_.size() - given_;
  return lines;
}

}  // namespace llama_tp
