// The one exception type. A message is one line: where, what, why, and what to do about it. It is thrown where the fact
// is known, caught once in main, and printed once for all ranks that have the same one.
#pragma once

#include <concepts>
#include <stdexcept>
#include <string>
#include <string_view>

namespace llama_tp {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A number as a stream prints it: six significant digits.
std::string text_of(double value);

// One part of a message at a message's end. No streams: this header is everywhere, and they are slow to compile.
inline void append(std::string& out, std::string_view part) { out += part; }
inline void append(std::string& out, char part) { out += part; }
template <std::integral Part>  // not std::integral auto, whose constraint nvcc 12.0 loses
void append(std::string& out, Part part) {
  out += std::to_string(part);
}
template <std::floating_point Part>
void append(std::string& out, Part part) {
  out += text_of(static_cast<double>(part));
}

// Joins its arguments.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::string out;
  (append(out, parts), ...);
  return out;
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(text(parts...));
}

// The parts are joined only when the condition does not hold.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) fail(parts...);
}

// A message as it is printed: names from damaged files may hold anything, but it stays one line without control
// characters.
std::string one_line(std::string message);

}  // namespace llama_tp
