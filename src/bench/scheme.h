// One way to train a model on the same ranks, as --compare names it: "tp=2,fsdp=2,sp=off,micro=2".
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "model/fsdp.h"
#include "parallel/mesh.h"

namespace llama_tp {

constexpr int64_t most_samples_a_rank = int64_t{1} << 10;  // of a forward, that are compared and searched

struct Scheme {
  std::string name;  // as it was written
  MeshShape mesh;
  int64_t micro_batch = 1;  // samples of a forward on each rank that has data of its own
  bool sequence_parallel = true;
  bool recompute = false;
  FsdpOptions fsdp;

  int sequence_ranks() const { return sequence_parallel ? mesh.tensor : 1; }
};

// What schemes are for, and what a word leaves out; of the sizes and samples it is 1.
struct SchemeSetting {
  const ModelConfig& config;
  int64_t ranks = 1;
  std::string ranks_by;  // who says so: "mpirun started"
  bool sequence_parallel = true, recompute = false;
  FsdpOptions fsdp;
};

// tp × fsdp × dp of a word; its errors are parse_schemes'.
int64_t ranks_of_scheme(const std::string& word);
// Errors: an unknown key or value, a key twice, a product that is not the number of ranks, a size that the model does
// not allow, by name; a scheme twice.
std::vector<Scheme> parse_schemes(const std::vector<std::string>& words, const SchemeSetting& setting);

}  // namespace llama_tp
