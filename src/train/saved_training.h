// A checkpoint that a run goes on from: found, checked against the run before memory is taken, and read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "io/checkpoint_files.h"
#include "io/model_files.h"
#include "parallel/host_group.h"
#include "parallel/launch.h"
#include "train/training_state.h"

namespace llama_tp {

// The checkpoint that --resume-from-checkpoint means; "": none, the run begins at the start. Errors: checkpoints of an
// earlier run that would be mixed with this one's, no such folder.
std::string find_checkpoint_to_resume(const TrainingSettings& settings, const OutputFolder& output);

// The family of --family, else the one that the checkpoint to resume keeps; null: the one of config.json.
FamilyPointer find_family(const TrainingSettings& settings);

class SavedTraining {
 public:
  // Opens every file and reads headers alone. now: what this run is. Errors: no training state or an incomplete one,
  // another model's, options that must agree and do not.
  SavedTraining(const std::string& checkpoint, const ModelConfig& config, const std::string& config_text,
                const Parameters& table, const TrainingState& now, const TrainingData& data);

  int64_t step() const { return saved_.step; }
  int64_t tokens() const { return saved_.tokens; }
  const std::string& checkpoint() const { return checkpoint_; }
  // "--learning-rate was 1e-05 and is 2e-05": options that may differ and do.
  std::vector<std::string> changes() const;

  // Each rank reads its slices. Once: closes the files, so that a checkpoint that is removed frees its room on the disk.
  // Collective over `world`. Errors: check_same_weights'.
  void load(const Launch& launch, HostGroup& world, Parameters& parameters, Backend& backend);

 private:
  void open_parts(const Parameters& table);

  std::string checkpoint_;
  const ModelConfig& config_;
  TrainingState saved_, now_;
  std::map<std::string, ModelFiles> parts_;  // by CheckpointPart::folder, until they are loaded
};

}  // namespace llama_tp
