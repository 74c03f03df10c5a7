#include "bench/scheme_words.h"

#include <algorithm>
#include <array>

#include "report/format.h"

namespace llama_tp {

namespace {

struct PhaseColor {
  Phase phase;
  const char* color;
};
constexpr std::array<PhaseColor, 5> phase_colors{{{Phase::forward, "#9ecae1"},
                                                  {Phase::loss, "#fdd49e"},
                                                  {Phase::backward, "#a1d99b"},
                                                  {Phase::gradient_sync, "#fa9fb5"},
                                                  {Phase::optimizer, "#bcbddc"}}};

}  // namespace

ByteUnit unit_for(const ComparisonRun& run) {
  int64_t most = 0;
  for (const Comparison* comparison : {&run.equal, &run.smallest})
    for (const SchemeResult& result : comparison->results) most = std::max(most, result.fullest().peak);
  return unit_for(static_cast<double>(most));
}

std::vector<Series> phase_series() {
  std::vector<Series> all;
  for (const PhaseColor& one : phase_colors) all.push_back({std::string(name_of(one.phase)), one.color});
  return all;
}

Span phase_span(const PhaseSpan& span) {
  const auto kind = std::find_if(phase_colors.begin(), phase_colors.end(),
                                 [&](const PhaseColor& one) { return one.phase == span.phase; });
  return {span.begin * milliseconds, span.end * milliseconds, static_cast<size_t>(kind - phase_colors.begin()),
          text(name_of(span.phase), ", ", fixed((span.end - span.begin) * milliseconds, 2), " ms")};
}

std::string batch_words(const SchemeResult& result) {
  return text(" (", result.batch.global_batch(), " × ", result.batch.block_size, ")");
}

}  // namespace llama_tp
