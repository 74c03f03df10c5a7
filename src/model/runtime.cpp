#include "model/runtime.h"

#include "report/format.h"

namespace llama_tp {

void Runtime::reserve(const MemoryPlan& plan) {
  const int64_t free = backend.free_memory();
  if (plan.total() > free)
    fail("this rank needs ", bytes_text(plan.total()), " (weights, gradients and optimizer ", bytes_text(plan.state),
         ", keys and values ", bytes_text(plan.cache), ", a step ", bytes_text(plan.step), "), but ", bytes_text(free),
         " are free (", backend.description(),
         "); more ranks, a smaller batch, a shorter context or --gradient-checkpointing need less");
  state.reserve(backend, plan.state);
  if (plan.cache > 0) cache.reserve(backend, plan.cache);
  if (plan.step > 0) step.reserve(backend, plan.step);
}

}  // namespace llama_tp
