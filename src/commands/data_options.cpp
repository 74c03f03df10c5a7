#include "commands/data_options.h"

namespace llama_tp {

void declare_data(Options& options) {
  options.value("chat-template",
                "a known one, for messages (default: the one of the model's training, else the tokenizer's own)",
                "NAME");
  options.value("assistant-only-loss",
                "on: of messages only the answers count, of prompt and completion only the completion", "on|off", "on");
}

DataTokenizerOptions data_options(const Options& options) {
  return {{options.word("chat-template")}, options.is_on("assistant-only-loss")};
}

void declare_reading(Options& options) {
  declare_data(options);
  options.value("truncation", "on: cut what sequences have beyond the block size; off: refuse them", "on|off", "on");
  options.value("packing", "on: several sequences in a sample, which do not see each other; text is packed anyway",
                "on|off", "off");
}

DatasetOptions with_reading(const Options& options, DatasetOptions dataset) {
  dataset.truncation = options.is_on("truncation");
  dataset.packing = options.is_on("packing");
  return dataset;
}

}  // namespace llama_tp
