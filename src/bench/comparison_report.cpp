#include "bench/comparison_report.h"

#include <numeric>

#include "bench/pictures.h"
#include "report/chrome_trace.h"

namespace llama_tp {

namespace {

void add_step(const StepRecord& record, int process, Trace& trace) {
  for (const PhaseSpan& span : record.phases)
    trace.events.push_back({process, "phases", std::string(name_of(span.phase)), span.begin, span.end, -1});
  for (const ExchangeSpan& span : record.exchanges) {
    const std::string group = group_names[static_cast<size_t>(span.group)];
    const bool waits = span.group == world_group;
    trace.events.push_back({process, group, waits ? "wait" : std::string(name_of(span.collective)), span.begin,
                            span.end, waits ? -1 : span.bytes});
  }
}

void trace_memory(const StepRecord& record, int process, Trace& trace) {
  int64_t held = std::accumulate(record.held.begin(), record.held.end(), int64_t{0});
  trace.counters.push_back({process, "memory", 0, held});
  for (const MemoryChange& change : record.memory) {
    held += change.bytes;
    trace.counters.push_back({process, "memory", change.time, held});
  }
}

}  // namespace

Page comparison_page(const ComparisonRun& run, const std::vector<std::string>& introduction, const std::string& table) {
  Page page{"Training schemes side by side", introduction, {}, table};
  page.figures.push_back(picture_of_peaks(run));
  page.figures.push_back(picture_of_memory(run));
  for (size_t i = 0; i < run.equal.results.size(); i++)
    page.figures.push_back(picture_of_step(run.equal.results[i], i));
  for (Figure& figure : pictures_of_growth(run)) page.figures.push_back(std::move(figure));
  page.figures.push_back(picture_of_losses(run));
  return page;
}

std::string comparison_trace(const ComparisonRun& run) {
  Trace trace;
  for (const SchemeResult& result : run.equal.results)
    for (size_t rank = 0; rank < result.records.size(); rank++) {
      const auto process = static_cast<int>(trace.processes.size());
      trace.processes.push_back(text(result.scheme.name, ", rank ", rank));
      add_step(result.records[rank], process, trace);
      if (rank == 0) trace_memory(result.records[rank], process, trace);
    }
  return chrome_trace(trace);
}

}  // namespace llama_tp
