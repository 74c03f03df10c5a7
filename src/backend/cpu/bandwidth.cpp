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
constexpr int passes = 7;

// Four streams a thread, a quarter of its part each; all bits are used, so that no read can be left out.
uint32_t read(const char* from, int64_t count) {
  constexpr int64_t streams = 4, width = sizeof(Words);
  const int64_t quarter = count / (streams * width) * width;
  Words sums[streams] = {};
  for (int64_t i = 0; i < quarter; i += width)
    for (int64_t stream = 0; stream < streams; stream++) {
      const char* at = from + stream * quarter + i;
      __builtin_prefetch(at + 1024);
      sums[stream] += load_bits<Words>(at, Whole{0});
    }
  const Words sum = sums[0] + sums[1] + sums[2] + sums[3];
  uint32_t total = 0;
  for (int lane = 0; lane < lanes; lane++) total += sum[lane];
  return total;
}

}  // namespace

double measure_read_bandwidth(int threads) {
  char* memory = static_cast<char*>(take_pages(bytes));
  if (memory == nullptr) return 0;
  parallel_ranges(threads, bytes, 1 << 21, [&](Range range, int) {
    std::memset(memory + range.begin, 1, static_cast<size_t>(range.end - range.begin));
  });
  double best = 0;
  uint32_t total = 0;
  for (int pass = 0; pass < passes; pass++) {
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
      const Range range = part_of(bytes, 1 << 21, omp_get_thread_num(), omp_get_num_threads());
      total += read(memory + range.begin, range.end - range.begin);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(bytes) / seconds.count());
  }
  give_pages_back(memory, bytes);
  return total == 0 ? 0 : best;  // never 0: every byte was set to 1
}

}  // namespace llama_tp
