#include "accesses/requests.h"

#include <algorithm>
#include <vector>

namespace llama_tp::accesses {

namespace {

constexpr size_t banks = 32, word_bytes = 4;

size_t width_of(const Request& request) {
  size_t width = 0;
  for (const LaneAccess& lane : request) width = std::max(width, lane.bytes);
  return width;
}

// The numbers of the units of so many bytes that these lanes touch, each once.
std::vector<uintptr_t> units_of(const LaneAccess* begin, const LaneAccess* end, size_t unit_bytes) {
  std::vector<uintptr_t> units;
  for (const LaneAccess* lane = begin; lane != end; lane++)
    for (uintptr_t at = lane->at / unit_bytes; lane->bytes > 0 && at <= (lane->at + lane->bytes - 1) / unit_bytes; at++)
      units.push_back(at);
  std::sort(units.begin(), units.end());
  units.erase(std::unique(units.begin(), units.end()), units.end());
  return units;
}

int64_t parts_of(size_t n, size_t size) { return static_cast<int64_t>((n + size - 1) / size); }

}  // namespace

Cost wavefronts_of(const Request& request) {
  const size_t at_once = request.size() / std::max<size_t>(1, width_of(request) / word_bytes);
  Cost cost{0, 0};
  for (size_t first = 0; first < request.size(); first += at_once) {
    const std::vector<uintptr_t> words = units_of(&request[first], &request[first] + at_once, word_bytes);
    std::array<int64_t, banks> in_bank{};
    for (const uintptr_t word : words) in_bank[word % banks]++;
    cost.needed += *std::max_element(in_bank.begin(), in_bank.end());
    cost.least += parts_of(words.size(), banks);
  }
  return cost;
}

Cost sectors_of(const Request& request) {
  return {static_cast<int64_t>(units_of(request.begin(), request.end(), sector_bytes).size()),
          parts_of(static_cast<size_t>(bytes_of(request)), sector_bytes)};
}

int64_t bytes_of(const Request& request) {
  return static_cast<int64_t>(units_of(request.begin(), request.end(), 1).size());
}

}  // namespace llama_tp::accesses
