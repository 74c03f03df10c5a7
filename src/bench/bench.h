// What every measurement of `llama_tp bench` starts from: a model of random weights, and this machine with all of its
// ranks.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "model/fsdp.h"
#include "model/placement.h"

namespace llama_tp {

// One rank of a larger mesh that runs alone.
struct LoneRank {
  int rank = 0, world = 1;
};

struct BenchSettings {
  std::string config, backend = "auto";
  std::string family;  // a family file, "" for the family that config.json names
  DType dtype = DType::bf16;
  MeshOptions mesh;
  std::optional<LoneRank> lone_rank;  // the mesh is then one of its ranks
  bool sequence_parallel = true, recompute = false;
  FsdpOptions fsdp;
  int64_t block_size = 512, micro_batch = 1, accumulation = 1, steps = 5;  // of training
  int64_t prompt_tokens = 512, new_tokens = 16;                            // of generation,
  int64_t sequences = 1;                                                   // of so many prompts at once
};

// What the ranks can do together, at best.
struct MachineRates {
  double read_bytes = 0;     // a second, from memory
  double product_flops = 0;  // FLOP/s of a large product in the run's type
};

class Bench {
 public:
  // Collective.
  Bench(const BenchSettings& settings, const Launch& launch);

  // On rank 0.
  void say(const std::string& line) const;
  double sum_over_ranks(double value) const;
  double most_of_ranks(double value) const;

  // Measured by all ranks at the same time. Collective.
  MachineRates measure_machine() const;
  // The mesh of the options.
  std::unique_ptr<Mesh> mesh() const;
  MeshShape shape() const;
  // A mesh of this shape, or the lone rank's of it.
  std::unique_ptr<Mesh> mesh_of(const MeshShape& shape) const;

  BenchSettings settings;
  const Launch& launch;
  ModelConfig config;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<HostGroup> world;

 private:
  double product_rate() const;
};

}  // namespace llama_tp
