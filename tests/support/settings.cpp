#include "support/settings.h"

#include <array>
#include <cstdlib>
#include <numeric>
#include <set>

namespace llama_tp {

namespace {

// {parameter, value, parameter, value}
using Pairs = std::set<std::array<int, 4>>;

Pairs pairs_of(const Values& setting) {
  Pairs pairs;
  const int count = static_cast<int>(setting.size());
  for (int a = 0; a < count; a++)
    for (int b = a + 1; b < count; b++)
      pairs.insert({a, setting[static_cast<size_t>(a)], b, setting[static_cast<size_t>(b)]});
  return pairs;
}

size_t count_missing(const Pairs& pairs, const Pairs& seen) {
  size_t missing = 0;
  for (const auto& pair : pairs) missing += seen.contains(pair) ? 0 : 1;
  return missing;
}

}  // namespace

bool test_all() { return std::getenv("LLAMA_TP_TEST_ALL") != nullptr; }

// Always the setting with most new pairs.
std::vector<size_t> pairwise(const std::vector<Values>& all) {
  std::vector<Pairs> pairs;
  for (const Values& setting : all) pairs.push_back(pairs_of(setting));
  std::vector<size_t> chosen;
  Pairs seen;
  for (;;) {
    size_t best = 0, most = 0;
    for (size_t place = 0; place < all.size(); place++) {
      const size_t missing = count_missing(pairs[place], seen);
      if (missing > most) best = place, most = missing;
    }
    if (most == 0) return chosen;
    chosen.push_back(best);
    seen.merge(pairs[best]);
  }
}

std::vector<size_t> places_under_test(const std::vector<Values>& all) {
  if (!test_all()) return pairwise(all);
  std::vector<size_t> every(all.size());
  std::iota(every.begin(), every.end(), size_t{0});
  return every;
}

}  // namespace llama_tp
