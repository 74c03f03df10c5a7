// Events in Chrome's Trace Event Format, which ui.perfetto.dev and chrome://tracing show.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace llama_tp {

struct TraceEvent {
  int process;  // of the trace's
  std::string track, name;
  double begin, end;  // seconds
  int64_t bytes;      // said beside it; -1: none
};
struct TraceCounter {
  int process;
  std::string name;
  double time;
  int64_t value;
};

struct Trace {
  std::vector<std::string> processes;  // names
  std::vector<TraceEvent> events;
  std::vector<TraceCounter> counters;
};

std::string chrome_trace(const Trace& trace);

}  // namespace llama_tp
