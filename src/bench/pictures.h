// What a comparison looks like. Each picture comes with a sentence that its numbers make.
#pragma once

#include <vector>

#include "bench/comparison.h"
#include "report/charts.h"
#include "report/html_page.h"

namespace llama_tp {

// What pictures of memory lay upon each other: from the bottom what lives as long as the run, then what lives for a
// unit, for a step, for a layer. Each category of the ledger is in one layer.
struct MemoryLayer {
  Series series;
  std::vector<Category> categories;
};
const std::vector<MemoryLayer>& memory_layers();

// The peak of the fullest rank by category, under both batch rules.
Figure picture_of_peaks(const ComparisonRun& run);
// Memory of a rank over the phases of a step, at an equal global batch.
Figure picture_of_memory(const ComparisonRun& run);
// Phases and collectives of every rank in a step.
Figure picture_of_step(const SchemeResult& result, size_t number);
// Peak memory and time of a step by context, under each batch rule: four pictures; none without a sweep.
std::vector<Figure> pictures_of_growth(const ComparisonRun& run);
Figure picture_of_losses(const ComparisonRun& run);

}  // namespace llama_tp
