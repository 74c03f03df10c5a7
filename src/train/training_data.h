// Data that rank 0 has read, on every rank; and the samples that a run trains on and validates with.
#pragma once

#include <string>
#include <vector>

#include "io/dataset_cache.h"
#include "model/config.h"
#include "parallel/host_group.h"
#include "train/training_settings.h"

namespace llama_tp {

// Rank 0's data in place of the others', once on each node (share_on_nodes). Collective.
void exchange(Dataset& data, HostGroup& group);

class TrainingData {
 public:
  // Rank 0 reads and tokenizes, or takes what an earlier run of this output folder has tokenized; the others get the
  // arrays. Collective. Errors: the files'; a tokenizer that is missing or has more ids than the model.
  TrainingData(const TrainingSettings& settings, const ModelConfig& config, const std::string& tokenizer,
               HostGroup& world);

  Dataset training, validation;  // the latter is empty without a --validation-file

  // What tells the training data from others, for the states of checkpoints.
  const std::string& description() const { return description_; }
  // The same as it stands in checkpoints of earlier versions.
  std::string earlier_description() const;

  // Rank 0: keeps what was tokenized for a later run; what is to be said where that fails.
  std::vector<std::string> keep() const;
  // The file that spared rank 0 the work, or "".
  std::string tokenized_before() const { return training_cache_.hit(); }

 private:
  DatasetCache training_cache_, validation_cache_;
  std::string description_;
};

}  // namespace llama_tp
