#include "train/shared_folder.h"

#include <memory>
#include <random>

namespace llama_tp {

namespace {

// A name that no host has looked for before: network file systems remember for a while what was not there.
int64_t unused_step() { return int64_t{1} << 40 | std::random_device{}(); }

}  // namespace

std::vector<int> ranks_that_see(const OutputFolder* output, HostGroup& world) {
  if (world.size() == 1) return {0};
  std::unique_ptr<PartialCheckpoint> sign;
  if (output != nullptr) sign = std::make_unique<PartialCheckpoint>(output->path(), unused_step());
  const std::string folder = world.broadcast(sign ? sign->folder() : "", 0);
  const std::vector<double> sees = world.all_gather(folder_exists(folder) ? 1 : 0);
  std::vector<int> ranks;
  for (int rank = 0; rank < world.size(); rank++)
    if (sees[static_cast<size_t>(rank)] != 0) ranks.push_back(rank);
  return ranks;
}

}  // namespace llama_tp
