// What must agree over the ranks, looked at: tensor-parallel ranks see the same batch, data ranks different samples
// that together are the global batch; and what several ranks hold of the parameters (copies of data-parallel ranks,
// norms and other parts that tensor-parallel ranks hold whole, key/value heads that some of them share) has the same
// bits on all.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "model/parameters.h"
#include "parallel/mesh.h"
#include "train/batches.h"

namespace llama_tp {

// Fingerprints of what a rank was given to train on in a step.
struct SeenBatches {
  std::array<uint64_t, 4> tensors{};  // of ids, targets, positions, ranges: all forwards together
  std::vector<uint64_t> sequences;    // of each that has a target: ids, targets and positions
  void add(const HostBatch& batch);
};

// Both are collective over all ranks. Errors, the same on every rank: a disagreement, with the step, what it is in and
// the ranks.
void check_batches(int64_t step, const SeenBatches& seen, const Dataset& data, const std::vector<int64_t>& samples,
                   const Mesh& mesh);
void check_replicas(int64_t step, const Parameters& parameters, Backend& backend, const Mesh& mesh);

}  // namespace llama_tp
