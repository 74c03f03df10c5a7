// The options of how a data file becomes tokens and labels: one way for all commands that read one.
#pragma once

#include "commands/options.h"
#include "io/data_tokenizer.h"

namespace llama_tp {

// Which tokens there are, and which of them count.
void declare_data(Options& options);
DataTokenizerOptions data_options(const Options& options);

// Those, and how sequences become samples.
void declare_reading(Options& options);
DatasetOptions with_reading(const Options& options, DatasetOptions dataset);

}  // namespace llama_tp
