// Work divided over OpenMP's threads by range alone: a thread gets the same part of the same range every time, so that
// results are bitwise repeatable and a thread finds again the pages that it has read before. Teams always have the
// backend's number of threads, since OpenMP allocates when a team's size changes; what is not worth one has no team.
// Bodies must not throw.
#pragma once

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/parts.h"

namespace llama_tp {

struct Range {
  int64_t begin = 0, end = 0;
};

// Part `part` of `parts` of [0, count), in whole granules; sizes differ by one granule at most, later parts may be
// empty.
inline Range part_of(int64_t count, int64_t granule, int part, int parts) {
  const int64_t granules = ceil_div(count, granule);
  const int64_t share = granules / parts, extra = granules % parts;
  const int64_t begin = part * share + std::min<int64_t>(part, extra);
  const int64_t end = begin + share + (part < extra ? 1 : 0);
  return {std::min(begin * granule, count), std::min(end * granule, count)};
}

// What is not worth a team. Work is counted in elements of a copy, some 0.1 ns each: so many take one thread about 10 µs,
// of which two would save four, where a region's start and end take one; but where another process has a core, a region
// takes 50 µs and more.
inline constexpr int64_t worth_threads = int64_t{1} << 17;

// Of a team of `threads`, those that should share work of so many elements: all or one.
inline int threads_for(int64_t elements, int threads) { return elements < worth_threads ? 1 : threads; }

// work(thread, threads) on each thread of a team.
template <class Work>
void on_each_thread(int threads, const Work& work) {
  if (threads == 1) return work(0, 1);  // OpenMP would allocate a team of one every time
#pragma omp parallel num_threads(threads)
  work(omp_get_thread_num(), omp_get_num_threads());
}

// body(Range, thread) once on every thread, empty ranges left out. A granule keeps two threads off one cache line, or
// rows together.
template <class Body>
void parallel_ranges(int threads, int64_t count, int64_t granule, const Body& body) {
  on_each_thread(threads, [&](int thread, int team) {
    const Range range = part_of(count, granule, thread, team);
    if (range.begin < range.end) body(range, thread);
  });
}

// body(index, thread) for each index of [0, count). Indices are given out in ascending order as threads become free, so
// that a task may wait for one with a lower index (OpenMP's own dynamic schedule does not promise that).
template <class Body>
void parallel_tasks(int threads, int64_t count, const Body& body) {
  std::atomic<int64_t> next{0};
  on_each_thread(threads, [&](int thread, int) {
    for (int64_t index = next++; index < count; index = next++) body(index, thread);
  });
}

}  // namespace llama_tp
