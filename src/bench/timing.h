// Seconds that a piece of work takes, once or the median of several times.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "report/stopwatch.h"

namespace llama_tp {

template <class Work>
double seconds_of(Work work) {
  const Stopwatch time;
  work();
  return time.seconds();
}

// Of `times` runs, after one that is not counted, ascending.
template <class Work>
std::vector<double> sorted_seconds(int64_t times, Work work) {
  work();
  std::vector<double> seconds;
  for (int64_t i = 0; i < times; i++) seconds.push_back(seconds_of(work));
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

// Their median.
template <class Work>
double median_seconds(int64_t times, Work work) {
  return sorted_seconds(times, work)[static_cast<size_t>(times / 2)];
}

}  // namespace llama_tp
