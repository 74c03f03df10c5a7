// How pictures and traces name what was measured: units, phases, batches.
#pragma once

#include <string>
#include <vector>

#include "bench/comparison.h"
#include "report/charts.h"
#include "report/format.h"

namespace llama_tp {

constexpr double milliseconds = 1e3;  // of a second

// Of the highest peak.
ByteUnit unit_for(const ComparisonRun& run);

// The phases of a training step with their colors, and one of them in milliseconds.
std::vector<Series> phase_series();
Span phase_span(const PhaseSpan& span);

// " (4 × 256)"
std::string batch_words(const SchemeResult& result);

}  // namespace llama_tp
