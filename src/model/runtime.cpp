#include "model/runtime.h"

#include "parallel/launcher_variables.h"
#include "report/format.h"

namespace llama_tp {

namespace {

struct Words {
  const char *state, *mend;
};

// What needs less beside more ranks.
Words words_of(MemoryUse use) {
  switch (use) {
    case MemoryUse::evaluation:
      return {"weights", " or a smaller --block-size"};
    case MemoryUse::generation:
      return {"weights", ", a smaller context (-c) or, of many prompts, a smaller --batch-size"};
    default:
      return {"weights, gradients and optimizer", ", a smaller batch, a shorter context or --gradient-checkpointing"};
  }
}

}  // namespace

const char* more_ranks(Backend& backend) {
  return backend.device() == nullptr ? "ranks on more machines" : "more ranks";
}

std::string are_free(int64_t bytes, Backend& backend) {
  const bool is_jobs_share = backend.device() == nullptr && environment({"SLURM_JOB_ID"}) != nullptr;
  return text(bytes_text(bytes), " are free", is_jobs_share ? ", which this Slurm job's --mem may limit" : "");
}

void Runtime::reserve(const MemoryPlan& plan, MemoryUse use) {
  const int64_t free = backend.free_memory();
  if (plan.total() > free) {
    const auto [state_words, mend] = words_of(use);
    const std::string cache_words = plan.cache > 0 ? text(", keys and values ", bytes_text(plan.cache)) : "";
    fail("this rank needs ", bytes_text(plan.total()), " (", state_words, " ", bytes_text(plan.state), cache_words,
         ", a step ", bytes_text(plan.step), "), but ", are_free(free, backend), " (", backend.description(), "); ",
         more_ranks(backend), mend, " need less");
  }
  state.reserve(backend, plan.state);
  if (plan.cache > 0) cache.reserve(backend, plan.cache);
  if (plan.step > 0) step.reserve(backend, plan.step);
}

}  // namespace llama_tp
