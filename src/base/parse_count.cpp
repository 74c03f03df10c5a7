#include "base/parse_count.h"

#include <charconv>

namespace llama_tp {

std::optional<int64_t> parse_count(std::string_view digits, int64_t least, int64_t most) {
  int64_t count = 0;
  const char* const end = digits.data() + digits.size();
  const auto read = std::from_chars(digits.data(), end, count);
  const bool whole = read.ec == std::errc() && read.ptr == end && digits.front() != '-';
  return whole && count >= least && count <= most ? std::optional(count) : std::nullopt;
}

}  // namespace llama_tp
