// Products timed by each of the algorithms that a library has for them, for a file that later runs read: they need not
// take the library's first guess, and do not time anything themselves.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace llama_tp {

// What was chosen, as it stands in a file. Only the backend that wrote it knows how to read it.
struct ProductFile {
  std::string path, text;  // both "": none
  bool given() const { return !path.empty(); }
};

// Seconds a call by the algorithm that the library names first, and by the one that was chosen.
struct ProductTimes {
  int algorithms = 0;  // that were tried
  double first_seconds = 0, chosen_seconds = 0;
};

struct TimedProduct {
  std::string kind;  // types and transposes
  int64_t m, n, k;   // 2·m·n·k FLOP
  ProductTimes times;
};

class ProductTuner {
 public:
  virtual ~ProductTuner() = default;

  // Errors: the file is none of tuned products, or they were tuned elsewhere.
  virtual void check(const ProductFile& before) const = 0;
  // Times each product that was asked for since the backend was made, and tells of it. Returns the file anew: what was
  // found, and the other products of `before`. Takes memory for operands and gives it back. Errors: those of check.
  virtual std::string tune(const ProductFile& before, const std::function<void(const TimedProduct&)>& found) = 0;
  // Of the products that were asked for: "9 of 11 by FILE, 2 by cuBLASLt's first heuristic"; "" without a file.
  virtual std::string usage() const = 0;
};

}  // namespace llama_tp
