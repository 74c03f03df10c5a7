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

  TrainingSettings settings;  // as asked for, with the number of steps and the date
  TrainingSource source;
  ModelConfig config;
  std::string config_text;  // for the checkpoints; the file may change before the last one
  TensorParallelPlan plan;
  std::unique_ptr<Backend> backend;
  std::string placement_said;  // by who made the mesh
  std::unique_ptr<Mesh> mesh;
  std::unique_ptr<OutputFolder> output;  // rank 0's
  std::string checkpoint;                // to go on from, or ""; found before data is read, opened after
  TrainingData data;
  CheckpointContents contents;  // of its checkpoints; read where the tokenizer is known to be one
  BatchShape shape;
  EpochBatches batches;
  TrainingState state;                   // of the checkpoint, or of a run that has done nothing
  std::unique_ptr<SavedTraining> saved;  // the checkpoint, if there is one
};

}  // namespace llama_tp
