#include "base/nearest_names.h"

#include <algorithm>
#include <numeric>

namespace llama_tp {

namespace {

constexpr size_t least_prefix = 3;  // letters: fewer begin too many names

// The fewest letters to insert, remove or replace (Levenshtein 1966), by Wagner and Fischer's table, a row at a time.
size_t distance_of(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);  // from the first i letters of a to the first j of b
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); j++) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

bool continues(std::string_view longer, std::string_view shorter) {
  return shorter.size() >= least_prefix && longer.starts_with(shorter);
}

}  // namespace

std::vector<std::string> nearest_names(std::string_view given, const std::vector<std::string>& names) {
  std::vector<std::string> nearest;
  size_t least = 0;
  for (const std::string& name : names) {
    const size_t distance = distance_of(given, name);
    if (3 * distance > given.size() && !continues(given, name) && !continues(name, given)) continue;
    if (nearest.empty() || distance < least) {
      nearest.clear();
      least = distance;
    }
    if (distance == least) nearest.push_back(name);
  }
  return nearest;
}

}  // namespace llama_tp
