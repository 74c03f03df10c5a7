// How large the checkpoints of a run are, and whether the disk of its output folder has room for them.
#pragma once

#include <string>
#include <vector>

#include "train/training_setup.h"

namespace llama_tp {

// Rank 0's; a file system that does not tell its free space passes. Errors: there is no room for a single checkpoint.
void require_room_for_a_checkpoint(const TrainingSetup& run);

// What the introduction says of them; nothing on other ranks than 0.
std::vector<std::string> checkpoint_lines(const TrainingSetup& run);

}  // namespace llama_tp
