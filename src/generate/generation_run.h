// `llama_tp generate`: a prompt continued on all ranks, the text streamed by rank 0.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "generate/sampler.h"
#include "parallel/launch.h"

namespace llama_tp {

struct GenerationSettings {
  std::string model, family, prompt, prompt_file;  // family: a file, "" for the one that config.json names
  int64_t tokens = -1;           // at most so many; below 0: until the end or until the context is full
  int64_t context = 0;           // 0: the prompt and `tokens`, at most the model's positions
  std::optional<uint64_t> seed;  // none: drawn, and said
  SamplerOptions sampler;
  bool ignore_eos = false, echo = false;
  std::optional<DType> dtype;
  int64_t tensor_parallel = 0;  // 0: auto
  std::string backend = "auto";
};

// Returns the exit status.
int run_generation(GenerationSettings settings, const Launch& launch);

}  // namespace llama_tp
