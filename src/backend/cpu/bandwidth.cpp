#include "backend/cpu/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "backend/cpu/huge_pages.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector.h"

namespace llama_tp {

namespace {

constexpr int64_t bytes = int64_t{256} << 20;
constexpr int most_passes = 24, least_passes = 2;
constexpr double longest = 0.5;  // seconds, on a busy machine

// In one stream or several side by side, whichever this processor foresees better; all bits are used, so that no read
// can be left out.
template <int64_t streams>
uint32_t read(const char* from, int64_t count) {
  constexpr int64_t chains = 4 / streams, width = sizeof(Words);
  const int64_t part = count / (4 * width) * (4 * width) / streams;
  Words sums[streams][chains] = {};
  for (int64_t i = 0; i < part; i += chains * width)
    for (int64_t stream = 0; stream < streams; stream++)
      for (int64_t chain = 0; chain < chains; chain++)
        sums[stream][chain] += load_bits<Words>(from + stream * part + i + chain * width, Whole{0});
  Words sum{};
  for (const auto& stream : sums)
    for (const Words& chain : stream) sum += chain;
  uint32_t total = 0;
  for (int lane = 0; lane < lanes; lane++) total += sum[lane];
  return total;
}

}  // namespace

double measure_read_bandwidth(int threads, double most_seconds) {
  char* memory = static_cast<char*>(take_pages(bytes));
  if (memory == nullptr) return 0;
  parallel_ranges(threads, bytes, 1 << 21, [&](Range range, int) {
    std::memset(memory + range.begin, 1, static_cast<size_t>(range.end - range.begin));
  });
  double best = 0;
  uint32_t total = 0;
  double spent = 0;
  most_seconds = std::min(most_seconds, longest);
  for (int pass = 0; pass < most_passes && (pass < least_passes || spent < most_seconds); pass++) {
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
      const Range range = part_of(bytes, 1 << 21, omp_get_thread_num(), omp_get_num_threads());
      const char* const from = memory + range.begin;
      const int64_t count = range.end - range.begin;
      total += pass % 2 == 0 ? read<1>(from, count) : read<4>(from, count);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    spent += seconds.count();
    best = std::max(best, static_cast<double>(bytes) / seconds.count());
  }
  give_pages_back(memory, bytes);
  return total == 0 ? 0 : best;  // never 0: every byte was set to 1
}

}  // namespace llama_tp
