// How much memory a piece of work needs, found by doing it with nothing behind it. (`bench --rehearse` is no such dry run:
// it takes the memory of one rank and computes for real, src/bench/lone_rank.h.)
#pragma once

#include <functional>

#include "model/runtime.h"

namespace llama_tp {

// Runs `work` on a runtime like the given one whose operations compute nothing, whose collectives send nothing and
// whose arenas only count; the result is what the real runtime must reserve for the same work. Prepares backend for the
// shapes of the work on the way.
MemoryPlan rehearse(Backend& backend, const Runtime& like, const std::function<void(Runtime&)>& work);

}  // namespace llama_tp
