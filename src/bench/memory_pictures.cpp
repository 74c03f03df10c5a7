#include <algorithm>
#include <numeric>

#include "bench/pictures.h"
#include "bench/scheme_words.h"
#include "report/charts.h"
#include "report/format.h"

namespace llama_tp {

namespace {

std::vector<Series> layer_series() {
  std::vector<Series> series;
  for (const MemoryLayer& layer : memory_layers()) series.push_back(layer.series);
  return series;
}

std::vector<double> in_layers(const CategoryBytes& bytes, const ByteUnit& unit) {
  std::vector<double> values;
  for (const MemoryLayer& layer : memory_layers())
    values.push_back(static_cast<double>(sum_of(bytes, layer.categories)) / unit.bytes);
  return values;
}

// Phase and time of the highest sum.
Phase phase_of_peak(const StepRecord& record) {
  int64_t sum = std::accumulate(record.held.begin(), record.held.end(), int64_t{0}), most = 0;
  double time = 0;
  for (const MemoryChange& change : record.memory) {
    sum += change.bytes;
    if (sum > most) time = change.time;
    most = std::max(most, sum);
  }
  Phase phase = Phase::load;
  for (const PhaseSpan& span : record.phases)
    if (span.begin <= time) phase = span.phase;
  return phase;
}

// "The peak lies in loss.", or of each scheme where they differ.
std::string where_peaks_lie(const std::vector<SchemeResult>& results) {
  const auto phase = [](const SchemeResult& result) { return phase_of_peak(result.records.front()); };
  const Phase first = phase(results.front());
  std::string said = text("The peak lies in ", name_of(first));
  if (std::all_of(results.begin(), results.end(), [&](const SchemeResult& one) { return phase(one) == first; }))
    return said + ".";
  said += " for " + results.front().scheme.name;
  for (size_t i = 1; i < results.size(); i++)
    said += text(", in ", name_of(phase(results[i])), " for ", results[i].scheme.name);
  return said + ".";
}

AreaPanel memory_panel(const SchemeResult& result, const ByteUnit& unit) {
  const StepRecord& record = result.records.front();
  AreaPanel panel{result.scheme.name + ", rank 0", {}, record.seconds * milliseconds, {}};
  CategoryBytes held = record.held;
  panel.points.push_back({0, in_layers(held, unit)});
  for (const MemoryChange& change : record.memory) {
    held[static_cast<size_t>(change.category)] += change.bytes;
    panel.points.push_back({change.time * milliseconds, in_layers(held, unit)});
  }
  for (const PhaseSpan& span : record.phases) panel.spans.push_back(phase_span(span));
  return panel;
}

}  // namespace

const std::vector<MemoryLayer>& memory_layers() {
  static const std::vector<MemoryLayer> all{{{"parameters", "#1f4e79"}, {Category::parameters}},
                                            {{"master weights", "#2e75b6"}, {Category::master_weights}},
                                            {{"moments", "#7fb0dc"}, {Category::moments}},
                                            {{"gradients", "#bcd6ee"}, {Category::gradients}},
                                            {{"FSDP: gathered weights", "#c55a11"}, {Category::gathered_parameters}},
                                            {{"FSDP: unsharded gradients", "#f4b183"}, {Category::unsharded_gradients}},
                                            {{"kept activations, split", "#2e7d32"}, {Category::saved_split}},
                                            {{"kept activations, whole", "#8fce8f"}, {Category::saved_whole}},
                                            {{"transient activations", "#b39ddb"}, {Category::transient}},
                                            {{"logits and scratch", "#bdbdbd"},
                                             {Category::logits, Category::communication, Category::workspace,
                                              Category::kv_cache, Category::data, Category::alignment}}};
  return all;
}

Figure picture_of_peaks(const ComparisonRun& run) {
  const ByteUnit unit = unit_for(run);
  BarChart chart{"Memory of a rank at its peak, by category", unit.name, layer_series(), {}};
  std::string said;
  for (const Comparison* comparison : {&run.equal, &run.smallest}) {
    const SchemeResult* least = &comparison->results.front();
    for (const SchemeResult& result : comparison->results) {
      if (result.fullest().peak < least->fullest().peak) least = &result;
      chart.bars.push_back({std::string(name_of(comparison->rule)), result.scheme.name + batch_words(result),
                            in_layers(result.fullest().measured, unit)});
    }
    said += text(comparison == &run.equal ? "At an " : "; at the ", name_of(comparison->rule), " ", least->scheme.name,
                 " needs the least, ", bytes_text(least->fullest().peak), " a rank");
  }
  const bool planned = std::all_of(run.equal.results.begin(), run.equal.results.end(),
                                   [](const SchemeResult& result) { return result.as_planned(); }) &&
                       std::all_of(run.smallest.results.begin(), run.smallest.results.end(),
                                   [](const SchemeResult& result) { return result.as_planned(); });
  said += planned ? ". Every bar is to the byte what was planned before the run." : ". Not every bar is as planned.";
  return {"peaks", "Memory of a rank at its peak", said, draw(chart)};
}

Figure picture_of_memory(const ComparisonRun& run) {
  const ByteUnit unit = unit_for(run);
  AreaChart chart{"Memory over a step", unit.name, "ms", layer_series(), phase_series(), {}};
  for (const SchemeResult& result : run.equal.results) chart.panels.push_back(memory_panel(result, unit));
  const std::string said =
      "State lies below; on it grow, through forward, the activations that are kept for backward. ";
  return {"memory", "Memory over the phases of a step, equal global batch", said + where_peaks_lie(run.equal.results),
          draw(chart)};
}

}  // namespace llama_tp
