// One way to train a model on the same ranks, as --compare names it: "tp=2,fsdp=2,sp=off".
#pragma once

#include <string>
#include <vector>

#include "bench/bench.h"

namespace llama_tp {

struct Scheme {
  std::string name;  // as it was written
  MeshShape mesh;
  bool sequence_parallel = true;
  bool recompute = false;
  FsdpOptions fsdp;

  int sequence_ranks() const { return sequence_parallel ? mesh.tensor : 1; }
};

// What a word leaves out is 1 rank, or as the settings have it. Errors: an unknown key or value, a key twice, a product
// that is not the number of ranks, a size that the model does not allow, by name; a scheme twice.
std::vector<Scheme> parse_schemes(const std::vector<std::string>& words, const Bench& bench);

}  // namespace llama_tp
