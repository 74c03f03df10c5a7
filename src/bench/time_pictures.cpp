#include <algorithm>
#include <cmath>

#include "bench/pictures.h"
#include "bench/scheme_words.h"
#include "report/format.h"

namespace llama_tp {

namespace {

// Of a group that communicates in a step, or waits at its end.
Series group_series(size_t group) {
  constexpr std::array<const char*, group_names.size()> colors{"#d62728", "#9467bd", "#e67300", "#0b7a8f", "#7f7f7f"};
  return {group == world_group ? "wait at the end" : text("collective: ", group_names[group]), colors[group]};
}

// Nearer than this share of a step, spans of one kind are drawn as one.
constexpr double finest = 1.0 / 2000;

std::vector<Span> exchange_spans(const StepRecord& record, const std::vector<size_t>& kind_of_group) {
  std::vector<ExchangeSpan> sorted = record.exchanges;
  std::sort(sorted.begin(), sorted.end(),
            [](const ExchangeSpan& a, const ExchangeSpan& b) { return a.begin < b.begin; });
  std::vector<Span> spans;
  for (const ExchangeSpan& exchange : sorted) {
    const size_t kind = kind_of_group[static_cast<size_t>(exchange.group)];
    const double begin = exchange.begin * milliseconds, end = exchange.end * milliseconds;
    if (!spans.empty() && spans.back().kind == kind &&
        begin - spans.back().end < finest * record.seconds * milliseconds)
      spans.back().end = end;
    else
      spans.push_back({begin, end, kind, ""});
  }
  return spans;
}

const Comparison& at(const ComparisonRun& run, BatchRule rule, size_t size) {
  return run.growth[2 * size + (rule == BatchRule::smallest ? 1 : 0)];
}

Figure growth(const ComparisonRun& run, BatchRule rule, bool memory) {
  const ByteUnit unit = unit_for(run);
  const size_t sizes = run.growth.size() / 2;
  const std::string what = memory ? "Peak memory of a rank" : "Time of a step";
  LineChart chart{text(what, " by context"), "tokens of a sequence", memory ? unit.name : "ms", {}, {}, {}};
  for (size_t size = 0; size < sizes; size++) chart.x.push_back(static_cast<double>(at(run, rule, size).block_size));
  std::string said;
  for (size_t i = 0; i < run.schemes.size(); i++) {
    std::vector<double> line;  // ends where the scheme does not fit any more
    for (size_t size = 0; size < sizes && at(run, rule, size).results[i].is_measured(); size++) {
      const SchemeResult& result = at(run, rule, size).results[i];
      line.push_back(memory ? static_cast<double>(result.fullest().peak) / unit.bytes
                            : result.seconds() * milliseconds);
    }
    if (line.empty()) continue;
    said += text(said.empty() ? "" : ", ", fixed(line.back() / line.front(), 2), " with ", run.schemes[i].name,
                 line.size() < sizes ? text(" (to ", chart.x[line.size() - 1], ")") : "");
    chart.names.push_back(run.schemes[i].name);
    chart.lines.push_back(std::move(line));
  }
  said = text("From ", chart.x.front(), " to ", chart.x.back(), " tokens ", memory ? "memory" : "a step",
              " grows by a factor of ", said, ".");
  return {text("growth_", memory ? "memory_" : "time_", rule == BatchRule::equal ? "equal" : "smallest"),
          text(what, " by context, ", name_of(rule)), said, draw(chart)};
}

}  // namespace

Figure picture_of_step(const SchemeResult& result, size_t number) {
  SpanChart chart{"A step of " + result.scheme.name, "ms", phase_series(), {}};
  std::vector<size_t> kind_of_group(group_names.size());
  for (size_t group = 0; group < group_names.size(); group++) {
    kind_of_group[group] = chart.kinds.size();
    if (group == world_group || result.group_sizes[group] > 1) chart.kinds.push_back(group_series(group));
  }
  for (size_t rank = 0; rank < result.records.size(); rank++) {
    const StepRecord& record = result.records[rank];
    Lane lane{text("rank ", rank), {{}, exchange_spans(record, kind_of_group)}};
    for (const PhaseSpan& span : record.phases) lane.rows.front().push_back(phase_span(span));
    chart.lanes.push_back(std::move(lane));
  }
  return {text("step_", number + 1),
          text("One step of ", result.scheme.name, batch_words(result), ", equal global batch"),
          text("Of ", fixed(result.seconds() * milliseconds, 1), " ms a rank spends ",
               fixed(100 * result.communication() / result.seconds(), 0),
               "% in collectives, its wait for slower ranks among it; ", result.records.front().exchanges.size(),
               " of them on rank 0. The upper row of a rank shows the phases, the lower one its collectives."),
          draw(chart)};
}

std::vector<Figure> pictures_of_growth(const ComparisonRun& run) {
  std::vector<Figure> figures;
  // Of sizes of which none fits there is nothing to see.
  const auto is_measured = [](const SchemeResult& result) { return result.is_measured(); };
  if (run.growth.empty() ||
      std::none_of(run.growth.front().results.begin(), run.growth.front().results.end(), is_measured))
    return figures;
  for (const BatchRule rule : {BatchRule::equal, BatchRule::smallest})
    for (const bool memory : {true, false}) figures.push_back(growth(run, rule, memory));
  return figures;
}

Figure picture_of_losses(const ComparisonRun& run) {
  LineChart chart{"Loss of each step", "step", "loss", {}, {}, {}};
  double least = INFINITY, most = 0;
  for (const SchemeResult& result : run.equal.results) {
    chart.names.push_back(result.scheme.name);
    chart.lines.push_back(result.losses);
    least = std::min(least, result.losses.back());
    most = std::max(most, result.losses.back());
  }
  for (size_t step = 1; step <= chart.lines.front().size(); step++) chart.x.push_back(static_cast<double>(step));
  return {"loss", "Loss, equal global batch",
          text("The schemes do the same work: after step ", chart.x.back(), " their losses differ by ",
               scientific(most - least), " at most."),
          draw(chart)};
}

}  // namespace llama_tp
