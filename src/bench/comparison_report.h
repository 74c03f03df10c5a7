// The files that a comparison can leave: a page for people, its pictures one by one, and a trace for Perfetto.
#pragma once

#include <string>

#include "bench/comparison.h"
#include "report/html_page.h"

namespace llama_tp {

// introduction: the model, the machine, the verdict. table: as it was printed.
Page comparison_page(const ComparisonRun& run, const std::vector<std::string>& introduction, const std::string& table);
// Of the step that was timed at an equal global batch: each rank of each scheme a process, with its phases, its
// collectives by group, and (rank 0) its memory.
std::string comparison_trace(const ComparisonRun& run);

}  // namespace llama_tp
