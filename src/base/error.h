// The one exception type. A message is one line: where, what, why, and what to do about it. It is thrown where the fact
// is known, caught once in main, and printed once for all ranks that have the same one.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace llama_tp {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Joins its arguments as operator<< prints them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
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

// A message as it is printed: names from damaged files may hold anything, but it stays one line without control characters.
inline std::string one_line(std::string message) {
  for (char& letter : message)
    if (static_cast<unsigned char>(letter) < ' ' || letter == '\x7f') letter = '?';
  return message;
}

}  // namespace llama_tp
