// What a training run was asked for: the command's options, and what is refused before anything is made.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "io/data_tokenizer.h"
#include "model/fsdp.h"
#include "model/placement.h"
#include "train/batches.h"
#include "train/schedule.h"

namespace llama_tp {

// The options of the command, by Hugging Face's names and with TrainingArguments' defaults.
struct TrainingSettings {
  std::string model;   // a folder to start from, or
  std::string config;  // a config.json for random weights
  std::string family;  // a family file, "" for the family that config.json names
  std::string tokenizer, train_file, validation_file, output_dir, dump_gradients;
  DataTokenizerOptions data;  // chat template and what is learned
  bool truncation = true, packing = false;
  MeshOptions mesh;
  int64_t block_size = 1024, micro_batch = 8;
  int64_t accumulation = 0;  // 0: derived from global_batch, or 1
  int64_t global_batch = 0;  // 0: micro_batch × accumulation × data ranks
  int64_t max_steps = -1;    // above 0 it wins over epochs
  double epochs = 3;
  Schedule schedule;
  double weight_decay = 0, adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8, max_grad_norm = 1;
  DType dtype = DType::bf16;
  std::optional<DType> save_dtype;  // of the weights in a checkpoint; none: dtype
  DType stored_dtype() const { return save_dtype.value_or(dtype); }
  std::string backend = "auto";
  bool recompute = false, sequence_parallel = true;
  FsdpOptions fsdp;
  uint64_t seed = 42;
  int64_t logging_steps = 500, evaluation_steps = 0, save_steps = 500;
  int64_t save_total_limit = 0;  // 0: all checkpoints stay
  bool save_only_model = false;  // without what a run needs to go on from a checkpoint
  std::string resume;            // "", "latest", or a folder
  int64_t check_every = 0;       // steps between comparisons of all ranks' parameters; 0: none
};

// Where the model comes from: a folder with weights, or a config.json alone.
struct TrainingSource {
  std::string folder;  // "" for random weights
  std::string config_file;
  std::string tokenizer;  // "" where there is none
};

// Errors: neither --model nor --config or both, no such folder.
TrainingSource find_source(const TrainingSettings& settings);

// Errors: what would fail only after some steps.
void check_settings(const TrainingSettings& settings);

// Forwards of a step. Errors: --global-batch-size that the batches of `data_ranks` do not make up.
int64_t accumulation_steps(const TrainingSettings& settings, int64_t data_ranks);

// The forwards of a run: none longer or larger than the data needs. Errors: accumulation_steps'.
BatchShape batch_shape(const TrainingSettings& settings, const MeshShape& mesh, const Dataset& data,
                       const Dataset& validation);

}  // namespace llama_tp
