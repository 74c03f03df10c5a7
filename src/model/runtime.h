// What a rank computes with: its device, the groups of ranks that it belongs to, and its memory. The real thing and
// its rehearsal (MetaBackend, MetaCommunicator, arenas that only count) are both a Runtime; nothing in model/ can tell
// them apart.
#pragma once

#include <cstdint>
#include <string>

#include "backend/arena.h"
#include "backend/backend.h"
#include "parallel/mesh_groups.h"

namespace llama_tp {

// Bytes of the three arenas.
struct MemoryPlan {
  int64_t state = 0, cache = 0, step = 0;
  int64_t total() const { return state + cache + step; }
};

// What memory is for, so that who has too little is told what needs less.
enum class MemoryUse { training, evaluation, generation };

// What of ranks needs less memory a rank: those of one host share its memory, and more of them there have less each.
const char* more_ranks(Backend& backend);

// "493.97 MiB are free": of a host's memory Slurm may give a job a part alone, and then the mend is to ask it for more.
std::string are_free(int64_t bytes, Backend& backend);

struct Runtime {
  // Errors: the backend works for another one that lives.
  Runtime(Backend& backend_, const MeshGroups& groups_, DType dtype_)
      : backend(backend_), groups(groups_), dtype(dtype_) {}

  // Takes the memory that a rehearsal found to be needed. Errors: the device has less; nothing was taken then.
  void reserve(const MemoryPlan& plan, MemoryUse use = MemoryUse::training);
  MemoryPlan high_water() const { return {state.high_water(), cache.high_water(), step.high_water()}; }

  Backend& backend;
  MeshGroups groups;
  DType dtype;  // of activations and of the weights that products read
  Ledger ledger;
  Arena state{"state", ledger};  // parameters, gradients, optimizer state
  Arena cache{"cache", ledger};  // keys and values of generation
  Arena step{"step", ledger};    // activations and scratch

 private:
  Workspace workspace_{backend, step};
};

}  // namespace llama_tp
