// inspect --data: the samples of a data file as a training run would see them, with what is learned set apart from what
// is masked.
#pragma once

#include "commands/options.h"

namespace llama_tp {

void declare_inspect_data(Options& options);
// in_colour: for a terminal; else what is learned stands between marks.
void inspect_data(const Options& options, bool in_colour);

}  // namespace llama_tp
