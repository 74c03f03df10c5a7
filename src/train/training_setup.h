// What a training run is, before any memory is taken for it: model, mesh, data, sizes, and the checkpoint that it goes
// on from.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/checkpoint_files.h"
#include "parallel/mesh.h"
#include "train/save_checkpoint.h"
#include "train/saved_training.h"
#include "train/training_data.h"

namespace llama_tp {

struct TrainingSetup {
  // Collective. Errors: anything wrong with files, sizes or values.
  TrainingSetup(TrainingSettings asked_for, const Launch& launch);
  TrainingSetup(const TrainingSetup&) = delete;
  TrainingSetup& operator=(const TrainingSetup&) = delete;

  int64_t steps() const { return settings.schedule.steps; }
  // Whether the checkpoint has done all steps.
  bool is_done() const { return saved != nullptr && state.step >= steps(); }
  // The folder that the weights come from; "" where they are random.
  const std::string& origin() const { return saved ? saved->checkpoint() : source.folder; }

  // In the order of their making, which has effects: a later stage needs all before it, and errors come in this order.
  // 1. The model.
  TrainingSettings settings;  // as asked for; stage 4 adds date, chat template and the number of steps
  TrainingSource source;
  ModelConfig config;
  // 2. Device and ranks. Collective.
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Mesh> mesh;
  // 3. The output folder, which rank 0 locks and cleans, and what to go on from, found before data is read. Collective.
  std::unique_ptr<OutputFolder> output;  // rank 0's
  std::vector<int> sharing;              // the ranks that see its folder
  std::string unseen_by;                 // "ranks 2, 3 on node2": the others; or ""
  std::string checkpoint;                // or ""
  // 4. The data, read and tokenized. Collective.
  TrainingData data;
  std::string config_text;      // for the checkpoints; the file may change before the last one
  CheckpointContents contents;  // of its checkpoints; read where the tokenizer is known to be one
  BatchShape shape;
  EpochBatches batches;
  // 5. The checkpoint, opened.
  TrainingState state;                   // of the checkpoint, or of a run that has done nothing
  std::unique_ptr<SavedTraining> saved;  // null without one
};

}  // namespace llama_tp
