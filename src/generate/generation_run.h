// `llama_tp generate`: texts continued on all ranks, printed by rank 0.
#pragma once

#include "generate/settings.h"
#include "parallel/launch.h"

namespace llama_tp {

// Both return the exit status.
// One prompt, the text streamed as it comes.
int run_generation(const GenerationSettings& settings, const Launch& launch);
// All prompts of a file (or the one of -p or -f) in one batch; a JSON line for each, in their order.
int run_prompts(const GenerationSettings& settings, const Launch& launch);

}  // namespace llama_tp
