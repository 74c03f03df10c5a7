// What `llama_tp generate` was asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "base/operation_options.h"
#include "io/chat/chat_template.h"
#include "io/generation_config.h"

namespace llama_tp {

struct GenerationSettings {
  std::string model;
  std::string family;               // a family file, "" for the one that config.json names
  std::string prompt, prompt_file;  // a text to continue, or a file that is one,
  std::string prompts_file;         // or many of them,
  int64_t batch_size = 64;          // of which so many are continued at once,
  bool chat = false;                // or a conversation
  std::string system;
  ChatTemplateChoice chat_template;
  int64_t tokens = -1;           // at most so many of a text; below 0: until the end or until the context is full
  int64_t context = 0;           // 0: as many as are needed, at most the model's positions
  std::optional<uint64_t> seed;  // none: drawn, and said
  SamplingOptions sampling;      // where neither `given` nor generation_config.json has a value
  GenerationConfig given;        // by options; wins over generation_config.json
  bool ignore_eos = false, echo = false, special = false, log_probabilities = false;
  std::optional<DType> dtype;
  int64_t tensor_parallel = 0;  // 0: auto
  std::string backend = "auto";
};

}  // namespace llama_tp
