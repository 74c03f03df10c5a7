// `llama_tp generate --chat`: a conversation at the terminal, on any number of ranks.
#pragma once

#include "generate/settings.h"
#include "parallel/launch.h"

namespace llama_tp {

// Only rank 0 reads stdin. Returns the exit status.
int run_chat(const GenerationSettings& settings, const Launch& launch);

}  // namespace llama_tp
