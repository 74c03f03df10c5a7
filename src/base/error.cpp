#include "base/error.h"

#include <cstdio>

namespace llama_tp {

std::string text_of(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%g", value);
  return digits;
}

std::string one_line(std::string message) {
  for (char& letter : message)
    if (static_cast<unsigned char>(letter) < ' ' || letter == '\x7f') letter = '?';
  return message;
}

}  // namespace llama_tp
